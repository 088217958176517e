"""Figures of a step that differ from one run to the next: what was timed, and what was measured of the machine."""

TIMED = {
    *("step_s", "forward_s", "backward_s", "optimizer_s", "data_wait_s", "eta_s"),
    *("tokens_per_s", "trained_tokens_per_s", "mfu", "device_use", "memory_bytes"),
}
