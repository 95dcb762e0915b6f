// Preloaded into user-mode-linux on processors whose register area is larger than it knows (AMX: 11 KiB): the kernel of the host takes that area
// back only as a whole. The guest keeps its first part, as ever; the rest is put in again here.

struct iovec {
  void *base;
  unsigned long length;
};
extern long syscall(long number, ...);
extern int *__errno_location(void);

enum { SYS_PTRACE = 101, PTRACE_GETREGSET = 0x4204, PTRACE_SETREGSET = 0x4205, NT_X86_XSTATE = 0x202 };

long ptrace(long request, long pid, long address, void *data) {
  static __thread char whole[65536] __attribute__((aligned(64)));
  if (request >= 1 && request <= 3) { // PEEK: the C library answers with the value itself
    long value = 0;
    if (syscall(SYS_PTRACE, request, pid, address, &value) < 0) return -1;
    *__errno_location() = 0;
    return value;
  }
  if (address != NT_X86_XSTATE || (request != PTRACE_GETREGSET && request != PTRACE_SETREGSET)) {
    return syscall(SYS_PTRACE, request, pid, address, data);
  }
  struct iovec *part = data, full = {whole, sizeof whole};
  if (syscall(SYS_PTRACE, PTRACE_GETREGSET, pid, address, &full) < 0) return -1;
  unsigned long count = part->length < full.length ? part->length : full.length;
  char *from = request == PTRACE_GETREGSET ? whole : part->base, *to = request == PTRACE_GETREGSET ? part->base : whole;
  for (unsigned long at = 0; at < count; at++) to[at] = from[at];
  if (request == PTRACE_SETREGSET) return syscall(SYS_PTRACE, request, pid, address, &full);
  part->length = count;
  return 0;
}
