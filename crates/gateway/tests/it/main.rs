//! The gateway's server and client against each other, and against peers that do not play by the rules, over real TLS on
//! loopback.

mod endpoints;
mod holder;
mod identities;
mod limits;
mod logs;
mod slow_clients;
mod support;
