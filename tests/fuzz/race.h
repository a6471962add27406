/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * race.h -- is this built with ThreadSanitizer?
 *
 * It reports bytes that shared writers, or a lease's holder and a local program, store and load
 * at the same time: a race that the protocol allows.  So there is none in its builds.
 */
#ifndef FUZZ_RACE_H
#define FUZZ_RACE_H

#if defined(__SANITIZE_THREAD__)
#define HAS_RACE_DETECTOR 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_RACE_DETECTOR 1
#endif
#endif
#ifndef HAS_RACE_DETECTOR
#define HAS_RACE_DETECTOR 0
#endif

#endif
