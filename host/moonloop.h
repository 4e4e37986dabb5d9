// SPDX-License-Identifier: MIT
//
// The public C interface of Moonloop: open the runtime in a Lua state, drive
// its loop, and write functions that suspend the calling task. Everything here
// is for the loop's own thread, except moonloop_post.
#ifndef MOONLOOP_H
#define MOONLOOP_H

#include <lua.h>

#define MOONLOOP_VERSION_NUM 100 /* 0.1.0 */

#if defined(__GNUC__)
#define MOONLOOP_API __attribute__((visibility("default")))
#else
#define MOONLOOP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct ev_loop;
typedef struct moonloop_runtime moonloop_runtime;
typedef struct moonloop_wait moonloop_wait;

/// The version as text, "0.1.0".
MOONLOOP_API const char *moonloop_version(void);

/// Opens the runtime of a Lua state; a second call returns the first one's.
/// With `loop` NULL it makes a loop of its own, else it lives in the given one
/// and never destroys it. Also makes `require "moonloop"` work in that state.
/// Raises a Lua error when memory or descriptors run out.
MOONLOOP_API moonloop_runtime *moonloop_open(lua_State *L,
                                             struct ev_loop *loop);

/// The runtime of a state, or NULL where none was opened.
MOONLOOP_API moonloop_runtime *moonloop_runtime_of(lua_State *L);

/// The libev loop, for a module's own watchers. A watcher that should not keep
/// the loop alive is the module's to ev_unref; a wait that was begun does.
MOONLOOP_API struct ev_loop *moonloop_loop(moonloop_runtime *rt);

/// Cancels every task and lets it unwind (for a second at most: what has not
/// ended then is closed where it stands), closes what they leave open and stops
/// every watcher. The state stays usable; `lua_close` alone is clean too.
/// Called inside the loop it is put off until the moonloop_run, moonloop_step
/// or moonloop_poll under way returns; inside a host's own ev_run it must not
/// be.
MOONLOOP_API void moonloop_close(lua_State *L);

/// Pops a function and `nargs` arguments and makes a task of them, which first
/// runs when the loop does. Pushes the Task and returns LUA_OK, or pushes the
/// error and returns its status.
MOONLOOP_API int moonloop_spawn(lua_State *L, int nargs);

/// Runs the loop until every task has ended or moonloop_stop was called.
/// Returns LUA_OK, or LUA_ERRRUN with the error pushed: the runtime is closed,
/// or the loop runs already.
MOONLOOP_API int moonloop_run(lua_State *L);

/// Makes the innermost moonloop_run (or `loop:run_forever`) return.
MOONLOOP_API void moonloop_stop(moonloop_runtime *rt);

/// One turn of the loop, which may block until something happens.
/// Returns the number of tasks left.
MOONLOOP_API int moonloop_step(lua_State *L);

/// For a foreign loop: does what is ready and never blocks. Stores into
/// `next_timeout` the seconds until it wants to be called again even if
/// moonloop_fd stays silent (0: at once, a negative number: no limit).
/// Returns the number of tasks left.
MOONLOOP_API int moonloop_poll(lua_State *L, double *next_timeout);

/// A descriptor that is readable when moonloop_poll has something to do, or -1
/// where the loop's backend has none. It stays the loop's own.
MOONLOOP_API int moonloop_fd(moonloop_runtime *rt);

/// Called when the waiting task is cancelled. Returns 1: undone, no wake will
/// come; 0: cannot stop now, a wake still comes and then CancelledError is
/// raised instead of the result.
typedef int (*moonloop_abort_fn)(moonloop_wait *w, void *ud);

/// Runs inside the task, protected: pushes results and returns their number,
/// or raises. Index 1 and up are the waiting C function's own arguments.
typedef int (*moonloop_push_fn)(lua_State *L, void *ud);

/// Begins a wait of the running task. Raises at once outside a task, across a C
/// boundary that cannot yield, or when the task is cancelled: acquire nothing
/// before it that an error would leak. `abort_fn` may be NULL: cannot stop.
MOONLOOP_API moonloop_wait *
moonloop_await_begin(lua_State *L, moonloop_abort_fn abort_fn, void *ud);

/// Suspends the task until the wake; use as `return moonloop_await(L, w);`. The
/// results of the C function are what the wake's push function pushes.
MOONLOOP_API int moonloop_await(lua_State *L, moonloop_wait *w);

/// Ends a wait, from the loop's thread, once. In a libev callback the task is
/// resumed before this returns (so call it last); called while Lua code runs it
/// is queued. `push` may be NULL: no results. `w` is dead afterwards.
MOONLOOP_API void moonloop_wake(moonloop_wait *w, moonloop_push_fn push,
                                void *ud);

/// What the inspector shows for this wait, as printf; 47 bytes are kept.
MOONLOOP_API void moonloop_wait_label(moonloop_wait *w, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/// Runs `fn(L, ud)` in the loop's thread; the one call for any thread. Each
/// runs once, in the order posted. An error that `fn` raises is reported to the
/// exception handler. Returns 0, or -1 when memory is out or the runtime
/// closed.
MOONLOOP_API int moonloop_post(moonloop_runtime *rt,
                               void (*fn)(lua_State *L, void *ud), void *ud);

/// Pushes the Error object for `err` (an errno value): `op` says what was tried
/// ("connect"), `what` on what ("127.0.0.1:9"; may be NULL). Returns 1.
MOONLOOP_API int moonloop_error_errno(lua_State *L, int err, const char *op,
                                      const char *what);

/// The opener for `require "moonloop"`. Pushes the module table.
MOONLOOP_API int luaopen_moonloop(lua_State *L);

#ifdef __cplusplus
}
#endif

#endif
