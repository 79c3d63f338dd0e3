// A system that forbids executable memory, for this process from here on.
#pragma once

namespace replk::test {

/// What systemd's MemoryDenyWriteExecute and hardened containers do, and more strictly: EPERM to every
/// mapping and every change of protection that asks for PROT_EXEC, for this thread and those it will start.
/// False, with the reason printed, where this system has no seccomp.
bool refuse_code();

}  // namespace replk::test
