// SPDX-License-Identifier: MIT
//
// The ready queue: what wants to run as soon as the loop comes round, first
// in, first out. Nodes are embedded in tasks and handles; nothing is allocated.
#ifndef MOONLOOP_READY_H
#define MOONLOOP_READY_H

#include <stdbool.h>
#include <stddef.h>

typedef struct moonloop_runtime Runtime;
typedef struct Ready Ready;

struct Ready {
  Ready *next;
  void (*run)(Runtime *rt, Ready *self); // called once, already unlinked
};

typedef struct ReadyQueue {
  Ready *head;
  Ready *tail;
  size_t count;
  bool held; // whether the queue holds a reference on the libev loop
} ReadyQueue;

// Appends `node`, which must not be queued already, and wakes the loop.
void ready_push(Runtime *rt, Ready *node);

// Runs what is queued: at most 64 rounds or about a millisecond of it.
void ready_drain(Runtime *rt);

// Forgets everything that is queued.
void ready_clear(Runtime *rt);

#endif
