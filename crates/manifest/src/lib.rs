//! Deployment files (ICL 1.0): text in, a validated [`Manifest`] and the order it becomes out.
//!
//! ```text
//! parse(file name, bytes) -> Deployment { manifest, warnings } or a Report with the place of every problem
//! SaltedManifest { salt, manifest }  hash() goes on chain, encode() goes to the provider, decode() is its door
//! derive(salted manifest, catalog)   the order terms; differences(derived, on chain) is what a provider refuses
//! ```
//!
//! Pure: no I/O, no clock, no floats, no maps of random order, so that the user's command line and the provider's agent
//! derive the same order terms from the same manifest.
#![deny(clippy::float_arithmetic, clippy::iter_over_hash_type)]

mod canonical;
mod compute;
mod decimal;
mod decode;
mod difference;
mod file;
mod model;
mod order;
mod price;
mod profiles;
mod report;
mod services;
mod syntax;
mod tree;
mod validate;

pub use canonical::{
    MANIFEST_VERSION, MAXIMUM_ENCODED_BYTES, MAXIMUM_MANIFEST_BYTES, ManifestError, SaltedManifest, canonical_json,
    content_hash,
};
pub use compute::{MAXIMUM_GPU_KINDS, MAXIMUM_GPUS, MAXIMUM_VOLUMES, MINIMUM_MEMORY_BYTES};
pub use decimal::{Decimal, DecimalError, MAXIMUM_SCALE};
pub use difference::{FieldDifference, FieldValue, differences};
pub use file::{Deployment, MAXIMUM_COUNT, parse};
pub use model::{
    Credentials, EnvironmentVariable, Expose, Gpu, GpuKind, Manifest, Mode, Mount, Placement, Protocol, PullPolicy,
    Requirements, Resources, Secret, Service, Volume, VolumeKind,
};
pub use order::{
    Catalog, GpuModel, OrderError, OrderRequest, Token, Totals, TotalsError, derive, named_suppliers, region_names,
    totals,
};
pub use price::{Quote, decimal_text, hourly_total};
pub use report::{Position, Problem, Report, Warning};
pub use services::{MAXIMUM_PORTS, MAXIMUM_SERVICES};
pub use syntax::{MAXIMUM_DURATION_SECONDS, duration_text};
pub use tree::{MAXIMUM_DEPTH, MAXIMUM_FILE_BYTES, MAXIMUM_NODES, MAXIMUM_TEXT_BYTES};
pub use validate::{InvalidManifest, validate};
