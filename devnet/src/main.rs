//! The whole network on one machine

fn main() {}
