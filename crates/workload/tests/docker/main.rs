//! Leases on a real Docker engine: at `DOCKER_HOST`, or at the usual socket. Needs root (isolation rules) and Debian's
//! `busybox-static`; `script/setup` installs both. Without them the tests fail and say so.

mod isolation;
mod leases;
mod logs;
mod pulls;
mod support;
