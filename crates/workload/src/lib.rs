//! The workload model and what runs it.
//!
//! [`Engine`] is the one interface: a lease's manifest goes in, containers come out, and everything about it is
//! level-triggered: [`Engine::apply`] looks at what exists, does what is missing and returns; calling it again (after a
//! crash, after a restart of the engine, or for no reason) changes nothing that is already right and never makes a
//! second container.
//!
//! * [`model`]: what names a lease's objects, and what an engine decides once and its caller keeps.
//! * [`status`]: what runs, in words and numbers.
//! * [`image`]: image references and which registry may see which login.
//! * [`plan`]: desired and observed in, actions out; nothing else decides what is created or removed.
//! * [`logs`]: the services' output, kept on disk in a bounded ring.
//! * [`docker`]: the engine over a Docker daemon on this machine.

pub mod docker;
pub mod engine;
pub mod image;
pub mod logs;
pub mod model;
pub mod plan;
pub mod specification;
pub mod status;
mod timestamp;

pub use docker::{Docker, Settings};
pub use engine::{Applied, Capacity, Disk, Engine, Error, Isolation, ObservedLease, Staged, Usage};
pub use logs::{LogItem, LogLine, LogStore, Stream};
pub use model::{AssignedPort, Assignment, LeaseId, ResolvedImage, Scope};
pub use status::{LeaseStatus, ReplicaState, ReplicaStatus, ServiceStatus};
