#include "pool.hpp"

#include <new>

#include "netweight.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace nw {
namespace {

constexpr int LOOKS = 2000;  // glances at the counter before an idle thread sleeps: some tens of microseconds

inline void rest() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int asked_threads = 1;
std::shared_ptr<Pool> current;
std::mutex choosing;

// Threads do not survive a fork: the child starts with a pool of its own when it first needs one. The old one is left alone.
void forget_pool() {
  new (&current) std::shared_ptr<Pool>;
  new (&choosing) std::mutex;
}

}  // namespace

Pool::Pool(int threads) {
  for (int i = 1; i < threads; i++) workers_.emplace_back([this] { work(); });
}

Pool::~Pool() {
  {
    std::lock_guard<std::mutex> lock(sleep_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread &worker : workers_) worker.join();
}

// One part of the present round, if any is left. What was read about the round is good if the counter has not moved since.
bool Pool::take_part(uint64_t &seen) {
  uint64_t state = next_.load(std::memory_order_acquire);
  while (true) {
    seen = state >> 32;
    const int64_t begin = int64_t(state & CLOSED), items = items_.load(std::memory_order_relaxed);
    const Function function = function_.load(std::memory_order_relaxed);
    void *context = context_.load(std::memory_order_relaxed);
    if (begin == int64_t(CLOSED) || begin >= items) return false;
    const int64_t share = (items - begin) / (4 * threads()), count = share > 1 ? share : 1;
    if (!next_.compare_exchange_weak(state, state + uint64_t(count), std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    function(context, begin, begin + count);
    done_.fetch_add(count, std::memory_order_release);
    return true;
  }
}

void Pool::work() {
  int looks = 0;
  uint64_t seen = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (take_part(seen)) {
      looks = 0;
      continue;
    }
    if (++looks < LOOKS) {
      rest();
      continue;
    }
    std::unique_lock<std::mutex> lock(sleep_);
    sleeping_.fetch_add(1);
    wake_.wait(lock, [&] {
      const uint64_t state = next_.load();
      return stopping_.load() || (state >> 32 != seen && (state & CLOSED) != CLOSED);
    });
    sleeping_.fetch_sub(1);
    looks = 0;
  }
}

void Pool::run(int64_t items, Function function, void *context) {
  if (items <= 0) return;
  std::unique_lock<std::mutex> turn(busy_, std::defer_lock);
  if (workers_.empty() || items == 1 || items >= int64_t(CLOSED) || !turn.try_lock()) return function(context, 0, items);
  const uint64_t round = next_.load(std::memory_order_relaxed) >> 32;
  next_.store((round + 1) << 32 | CLOSED);
  items_.store(items, std::memory_order_relaxed);
  function_.store(function, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  next_.store((round + 2) << 32);
  if (sleeping_.load() > 0) {
    std::lock_guard<std::mutex> lock(sleep_);
    wake_.notify_all();
  }
  uint64_t seen;
  while (take_part(seen)) {
  }
  for (int looks = 0; done_.load(std::memory_order_acquire) != items; looks++) {
    if (looks < LOOKS)
      rest();
    else
      std::this_thread::yield();
  }
}

std::shared_ptr<Pool> pool() {
  std::lock_guard<std::mutex> lock(choosing);
  if (!current) {
#if !defined(_WIN32)
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
    (void)registered;
#endif
    current = std::make_shared<Pool>(asked_threads);
  }
  return current;
}

}  // namespace nw

extern "C" {

void nw_set_threads(int threads) {
  std::lock_guard<std::mutex> lock(nw::choosing);
  threads = threads < 1 ? 1 : threads > 256 ? 256 : threads;
  if (threads == nw::asked_threads) return;
  nw::asked_threads = threads;
  nw::current.reset();
}

int nw_threads(void) { return nw::asked_threads; }
}
