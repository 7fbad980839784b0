"""The page: what flows, one upload, one session, dead letters, students and golden sets, in a process of its own."""
