/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * list.h -- intrusive doubly linked list
 *
 * No allocation: what must not fail (I7) can always be queued.
 * Threads: the owner of the list locks.
 */
#ifndef PML_LIST_H
#define PML_LIST_H

#include "pml/base.h"

struct pml_list {
	struct pml_list *next;
	struct pml_list *prev;
};

static inline void pml_list_init(struct pml_list *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool pml_list_is_empty(const struct pml_list *head)
{
	return head->next == head;
}

/* Appends @node, which is on no list. */
static inline void pml_list_append(struct pml_list *head, struct pml_list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Takes @node off its list; harmless on an initialised node that is on none. */
static inline void pml_list_remove(struct pml_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	pml_list_init(node);
}

#define pml_list_entry(node, type, member) PML_CONTAINER_OF(node, type, member)

#define pml_list_for_each(pos, head, member)                                                       \
	for (pos = pml_list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head); \
	     pos = pml_list_entry(pos->member.next, __typeof__(*pos), member))

/* As pml_list_for_each, and @pos may be removed from the list inside. */
#define pml_list_for_each_safe(pos, tmp, head, member)                                             \
	for (pos = pml_list_entry((head)->next, __typeof__(*pos), member),                         \
	    tmp = pml_list_entry(pos->member.next, __typeof__(*pos), member);                      \
	     &pos->member != (head);                                                               \
	     pos = tmp, tmp = pml_list_entry(pos->member.next, __typeof__(*pos), member))

#endif
