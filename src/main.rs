//! The command line: flags, configuration, start, wait for a signal, stop.

fn main() {}
