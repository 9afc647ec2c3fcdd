// Threads that share out numbered items.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace nw {

// Items are handed out by one atomic counter, so that a thread the system has put aside delays nobody but the item it holds.
// Idle threads look for work for a few microseconds, then sleep.
class Pool {
 public:
  using Function = void (*)(void *context, int64_t begin, int64_t end);

  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool &) = delete;
  Pool &operator=(const Pool &) = delete;

  int threads() const { return int(workers_.size()) + 1; }
  // function(context, begin, end) over parts of 0 … items, on all threads, this one included; returns when all are done.
  // Called from two threads at once, the second does its items alone.
  void run(int64_t items, Function function, void *context);

 private:
  void work();
  bool take_part(uint64_t &seen);

  static constexpr uint64_t CLOSED = 0xffffffffu;
  std::vector<std::thread> workers_;
  std::atomic<uint64_t> next_{CLOSED};  // round << 32 | next item; CLOSED while a round is being set up
  std::atomic<int64_t> items_{0}, done_{0};
  std::atomic<Function> function_{nullptr};
  std::atomic<void *> context_{nullptr};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stopping_{false};
  std::mutex sleep_, busy_;
  std::condition_variable wake_;
};

std::shared_ptr<Pool> pool();  // held by whoever uses it, so that changing the number of threads meanwhile is safe

// each(begin, end) over parts of 0 … items. Throws std::bad_alloc here when one of them did.
template <class Each> void share(int64_t items, Each each) {
  struct Context {
    Each &each;
    std::atomic<bool> no_memory{false};
  } context{each};
  pool()->run(
      items,
      [](void *held, int64_t begin, int64_t end) {
        Context &context = *static_cast<Context *>(held);
        try {
          context.each(begin, end);
        } catch (const std::bad_alloc &) {
          context.no_memory = true;
        }
      },
      &context);
  if (context.no_memory) throw std::bad_alloc();
}

}  // namespace nw
