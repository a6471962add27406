/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fence.h -- how remote access is ended on a device, and what was measured of it
 *
 * A fence method is only as good as the device.  Its proof is a verdict: so many
 * trials of pml_fencetest_run() on this device under this kernel, so many
 * violations.  Verdicts live in a state file that the server reads; which method
 * each of its connections gets, pml_fence_decide() says.
 *
 * Text: docs/design.md, "Fences".
 */
#ifndef PML_FENCE_H
#define PML_FENCE_H

#if PML_LAYER < 3
#error "dependencies go one way: tools, rdma, lease, fs, base (docs/design.md)"
#endif

#include "pml/base.h"

enum pml_fence_method {
	PML_BY_WINDOW,	   /* a memory window of type 2B, invalidated (LOCAL_INV) */
	PML_BY_REGION,	   /* a memory region of the segment alone, deregistered */
	PML_BY_CONNECTION, /* the queue pair destroyed, then the key freed */
};
#define PML_FENCE_METHODS 3

/* "window", "region", "connection" */
const char *pml_fence_method_name(enum pml_fence_method method);
/* 0 or -EINVAL. */
int pml_fence_method_parse(const char *text, enum pml_fence_method *ret_method) PML_MUST_CHECK;

/* ---- devices ------------------------------------------------------------ */

/* What a verdict is bound to.  Texts are printable and hold no blank; "-": not known. */
struct pml_fence_device {
	char name[64];	   /* "rxe0", "mlx5_0"; "soft" */
	char driver[32];   /* "rdma_rxe", "mlx5_core" */
	char guid[24];	   /* node GUID, as ibv_devices(1) prints it */
	char firmware[64]; /* its version */
	char kernel[65];   /* release of the running kernel */
	bool has_windows;  /* can do PML_BY_WINDOW; no part of the identity */
};

/* ---- verdicts ----------------------------------------------------------- */

/* Fewer trials without a violation prove nothing. */
#define PML_VERDICT_TRIALS_MIN 1000u
/* Verdicts in a file; more are refused. */
#define PML_VERDICTS_MAX  64u
#define PML_VERDICTS_PATH "/var/lib/pmemleasefs/fences"

struct pml_verdict {
	struct pml_fence_device device;
	enum pml_fence_method method;
	uint64_t trials;
	uint64_t violations;
	uint64_t unbounded; /* times that a key of this method reached beyond its range */
	char date[32];	    /* of the newest trial, UTC: "2026-05-31T12:00:00Z" */
};

struct pml_verdicts {
	uint32_t count;
	struct pml_verdict list[PML_VERDICTS_MAX];
};

/*
 * pml_verdicts_load() - read the state file
 * @ret_reason: PML_REASON_BYTES; names the file, the line and the remedy
 *
 * No file is no verdict, and no error.
 *   -EPERM   others than its owner may write it, or it is neither root's nor ours
 *   -EINVAL  its contents are none that pml_verdict_record() wrote
 *   -errno   of open(2), read(2)
 */
int pml_verdicts_load(const char *path, struct pml_verdicts *ret_verdicts,
		      char *ret_reason) PML_MUST_CHECK;
/*
 * pml_verdict_record() - add trials to the state file, which is replaced as a whole
 *
 * Trials and violations of the same device, kernel and method add up: a clean run does
 * not take back that an earlier one was not.  On 0 it is on the disk.  The directory is
 * made if it is missing.  Concurrent callers wait for each other.
 * Errors: those of pml_verdicts_load(), -ENOSPC (PML_VERDICTS_MAX), -errno of the calls.
 */
int pml_verdict_record(const char *path, const struct pml_verdict *verdict,
		       char *ret_reason) PML_MUST_CHECK;
/* What is known of @method on @device; NULL: nothing. */
const struct pml_verdict *pml_verdict_find(const struct pml_verdicts *verdicts,
					   const struct pml_fence_device *device,
					   enum pml_fence_method method);

/* ---- which method ------------------------------------------------------- */

enum pml_fence_choice {
	PML_FENCE_AUTO, /* windows where they are proven, else regions */
	PML_FENCE_WINDOW,
	PML_FENCE_REGION,
	PML_FENCE_BY_CONNECTION,
};
/* "auto" and the names of the methods.  0 or -EINVAL. */
int pml_fence_choice_parse(const char *text, enum pml_fence_choice *ret_choice) PML_MUST_CHECK;

/* How the keys of a connection are made, and which steps end them for certain. */
struct pml_fence_plan {
	enum pml_fence_method method; /* PML_BY_CONNECTION: regions, never ended one by one */
	bool is_key_proven;	      /* ending the key alone is a fence */
	bool is_connection_proven;    /* destroying the queue pair and then freeing the key is */
};

/*
 * pml_fence_decide() - the plan for a device
 * @ret_text: PML_REASON_BYTES; what is done and why, in words; on an error the remedy
 *
 * A step with violations on @device is never taken for a fence.  Without a verdict,
 * deregistering a region and destroying a queue pair are: every driver has to make them
 * one (docs/design.md).  Windows are proven by a verdict only, and not used at all where
 * one reached beyond its range, or soft-RoCE is not proven to keep them in it (I6).  Every ending
 * of a key counts as untrusted, for a client that returned a lease may be lying (I3).
 *
 * Returns 1 when it works but somebody should know (ret_text is a warning), 0, or
 *   -EOPNOTSUPP  no step is left that is a fence there; windows were asked for and there
 *                are none, or their bounds are not kept
 */
int pml_fence_decide(enum pml_fence_choice choice, const struct pml_verdicts *verdicts,
		     const struct pml_fence_device *device, struct pml_fence_plan *ret_plan,
		     char *ret_text) PML_MUST_CHECK;

/* ---- the test ----------------------------------------------------------- */

struct pml_fencetest_args {
	bool is_soft;	  /* the software fabric; else verbs */
	const char *host; /* an address of the device; of this machine (soft) */
	enum pml_fence_method method;
	const char *dir; /* memory of a file there, as long as it takes; NULL: of no file */
	uint32_t count;	 /* of trials; half of them stream writes, half reads */
	/* After each trial; false ends the test early.  May be NULL. */
	bool (*progress)(void *arg, uint32_t done, uint32_t violations);
	void *progress_arg;
};

struct pml_fencetest_result {
	struct pml_fence_device device;
	uint32_t trials;     /* in which the client was in mid-stream when the fence began */
	uint32_t idle;	     /* attempts that were none: nothing was under way */
	uint32_t unbounded;  /* directions in which a key reached beyond its range (I6) */
	uint32_t violations; /* trials with a changed byte, or a read from after the fence */
	uint32_t writes;     /* of the violations: memory changed after the fence */
	uint32_t reads;	     /* of the violations: a read that succeeded shows later bytes */
	uint64_t fence_ns;   /* in all trials together */
	uint64_t fence_max_ns;
	uint32_t failed; /* fences that failed and were followed by the next step */
};

/*
 * pml_fencetest_run() - a client of this process streams, the server side fences
 *
 *   -EOPNOTSUPP  the device has no windows
 *   -EIO         no trial could be made; ret_reason says what failed
 *   -errno       of the failing call
 */
int pml_fencetest_run(const struct pml_fencetest_args *args, struct pml_fencetest_result *ret,
		      char *ret_reason) PML_MUST_CHECK;
/*
 * The first address through which an RDMA device of this machine can be reached, as text
 * of PML_FENCE_HOST_BYTES.  -ENODEV: none; ret_reason says how to make one.
 */
#define PML_FENCE_HOST_BYTES 64
int pml_fencetest_find_host(char *ret_host, char *ret_reason) PML_MUST_CHECK;

#endif
