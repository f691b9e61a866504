//! What users and providers do by hand

fn main() {}
