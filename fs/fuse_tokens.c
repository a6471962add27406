/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_tokens.c -- random bytes that stand for an open file
 *
 * The tokens stand in the order in which they were given, so the oldest is in front.  A
 * few thousand are searched one after the other.
 */
#include "fuse_tokens.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>

struct token {
	uint8_t bytes[PML_FUSE_TOKEN_BYTES];
	struct pml_inode *inode; /* a reference */
	uint64_t until_ms;
	uid_t uid;
	unsigned int rights;
};

struct pml_fuse_tokens {
	pthread_mutex_t lock;
	size_t n;
	struct token token[PML_FUSE_TOKENS_MAX];
};

int pml_fuse_tokens_new(struct pml_fuse_tokens **ret_tokens)
{
	struct pml_fuse_tokens *tokens = calloc(1, sizeof(*tokens));
	if (!tokens)
		return -ENOMEM;
	pthread_mutex_init(&tokens->lock, NULL);
	*ret_tokens = tokens;
	return 0;
}

void pml_fuse_tokens_free(struct pml_fuse_tokens *tokens)
{
	if (!tokens)
		return;
	for (size_t i = 0; i < tokens->n; i++)
		pml_inode_put(tokens->token[i].inode, 1);
	pthread_mutex_destroy(&tokens->lock);
	free(tokens);
}

/* Returns the inode, whose reference is the caller's now. */
static struct pml_inode *remove_locked(struct pml_fuse_tokens *tokens, size_t i)
{
	struct pml_inode *inode = tokens->token[i].inode;
	memmove(&tokens->token[i], &tokens->token[i + 1],
		(--tokens->n - i) * sizeof(tokens->token[0]));
	return inode;
}

/* The inode of a token that must go for one more of @uid; NULL: there is room. */
static struct pml_inode *make_room_locked(struct pml_fuse_tokens *tokens, uid_t uid)
{
	size_t count = 0, oldest = 0;
	for (size_t i = tokens->n; i-- > 0;) {
		if (tokens->token[i].uid != uid)
			continue;
		count++;
		oldest = i;
	}
	if (count >= PML_FUSE_USER_TOKENS_MAX)
		return remove_locked(tokens, oldest);
	return tokens->n == PML_FUSE_TOKENS_MAX && uid == 0 ? remove_locked(tokens, 0) : NULL;
}

int pml_fuse_tokens_give(struct pml_fuse_tokens *tokens, struct pml_inode *inode, uid_t uid,
			 unsigned int rights, uint64_t now_ms,
			 uint8_t ret_token[PML_FUSE_TOKEN_BYTES])
{
	struct token token = {
		.inode = inode,
		.until_ms = now_ms + PML_FUSE_TOKEN_LIFE_MS,
		.uid = uid,
		.rights = rights,
	};
	if (getrandom(token.bytes, sizeof(token.bytes), 0) != (ssize_t)sizeof(token.bytes))
		return -EIO;
	(void)pml_fuse_tokens_purge(tokens, now_ms);
	pthread_mutex_lock(&tokens->lock);
	struct pml_inode *gone = make_room_locked(tokens, uid);
	bool has_room = tokens->n < PML_FUSE_TOKENS_MAX;
	if (has_room) {
		pml_inode_ref(inode);
		tokens->token[tokens->n++] = token;
		memcpy(ret_token, token.bytes, sizeof(token.bytes));
	}
	pthread_mutex_unlock(&tokens->lock);
	if (gone)
		pml_inode_put(gone, 1);
	return has_room ? 0 : -EAGAIN;
}

struct pml_inode *pml_fuse_tokens_take(struct pml_fuse_tokens *tokens,
				       const uint8_t token[PML_FUSE_TOKEN_BYTES], uid_t uid,
				       unsigned int rights, uint64_t now_ms)
{
	struct pml_inode *inode = NULL;
	pthread_mutex_lock(&tokens->lock);
	for (size_t i = 0; i < tokens->n; i++) {
		const struct token *t = &tokens->token[i];
		if (memcmp(t->bytes, token, PML_FUSE_TOKEN_BYTES) != 0)
			continue;
		if (t->uid == uid && (t->rights & rights) == rights && now_ms < t->until_ms)
			inode = remove_locked(tokens, i);
		break;
	}
	pthread_mutex_unlock(&tokens->lock);
	return inode;
}

size_t pml_fuse_tokens_purge(struct pml_fuse_tokens *tokens, uint64_t now_ms)
{
	for (;;) {
		struct pml_inode *gone = NULL;
		pthread_mutex_lock(&tokens->lock);
		if (tokens->n > 0 && tokens->token[0].until_ms <= now_ms)
			gone = remove_locked(tokens, 0);
		size_t left = tokens->n;
		pthread_mutex_unlock(&tokens->lock);
		if (!gone)
			return left;
		pml_inode_put(gone, 1);
	}
}
