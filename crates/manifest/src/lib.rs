//! Deployment files (ICL 1.0): text in, a validated [`Manifest`] and the order it becomes out.
//!
//! Pure: no I/O, no clock, no floats, no maps of random order, so that the user's command line and the provider's agent
//! derive the same order terms from the same manifest.

mod decimal;
mod model;

pub use decimal::{Decimal, DecimalError, MAXIMUM_SCALE};
pub use model::{
    Credentials, EnvironmentVariable, Expose, Gpu, GpuKind, Manifest, Mode, Mount, Placement,
    Protocol, PullPolicy, Requirements, Resources, Secret, Service, Volume, VolumeKind,
};
