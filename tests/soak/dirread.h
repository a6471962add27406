/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirread.h -- reading a directory piece by piece while its entries come and go
 */
#ifndef SOAK_DIRREAD_H
#define SOAK_DIRREAD_H

#include "model.h"

/* One more piece of the directory that this process reads, or the first of op->dir. */
int read_directory_on(const struct op *op);
/* Lets go of it, as after a crash. */
void read_directory_end(void);

#endif
