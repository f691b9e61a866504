//! What one container is made from, engine by engine the same.

use manifest::{EnvironmentVariable, Manifest, Service, VolumeKind};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::{AssignedPort, Names};

/// Where shared memory is mounted; a memory volume there sets its size instead of adding a mount.
const SHARED_MEMORY_PATH: &str = "/dev/shm";
/// Engines refuse less than this.
const MINIMUM_MEMORY_BYTES: u64 = 6 << 20;
/// Engines refuse less than a hundredth of a core.
const MINIMUM_MILLI_CPU: u64 = 10;

/// Everything a container is made from. Two containers with equal specifications are interchangeable, so one that runs
/// is replaced only when its specification changed. Paths, limits and names only: nothing here can name a host path,
/// a host namespace or a privilege.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerSpecification {
    /// The service.
    pub service: String,
    /// The replica, from 0.
    pub replica: u32,
    /// Its host name.
    pub hostname: String,
    /// The engine's id of the image.
    pub image_id: String,
    /// The entrypoint; empty means the image's own.
    pub command: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<EnvironmentVariable>,
    /// CPU limit, in thousandths of a core.
    pub milli_cpu: u64,
    /// Memory limit in bytes; there is no swap beside it.
    pub memory_bytes: u64,
    /// Size of `/dev/shm`, where the manifest sets it.
    pub shared_memory_bytes: Option<u64>,
    /// How many processes and threads it may have.
    pub process_limit: u64,
    /// What it may use of the disk, in bytes: its writable layer and its volumes together.
    pub storage_bytes: u64,
    /// Its volumes.
    pub volumes: Vec<VolumeMount>,
    /// Its memory volumes.
    pub memory_volumes: Vec<MemoryMount>,
    /// Its published ports.
    pub ports: Vec<AssignedPort>,
    /// How many GPUs it gets.
    pub gpus: u32,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeMount {
    /// The volume's name on the engine.
    pub name: String,
    /// Where it is mounted.
    pub path: String,
    /// Mounted without write access.
    pub read_only: bool,
}

/// A tmpfs in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryMount {
    /// Where it is mounted.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Mounted without write access.
    pub read_only: bool,
}

impl ContainerSpecification {
    /// The specification of one replica of a service, once its image and its ports are known.
    pub fn new(
        names: &Names,
        service_name: &str,
        service: &Service,
        replica: u32,
        image_id: &str,
        ports: Vec<AssignedPort>,
        process_limit: u64,
    ) -> Self {
        let resources = &service.resources;
        let mut specification = Self {
            service: service_name.to_owned(),
            replica,
            hostname: if service.count == 1 {
                service_name.to_owned()
            } else {
                format!("{service_name}-{replica}")
            },
            image_id: image_id.to_owned(),
            command: service.command.clone(),
            args: service.args.clone(),
            env: service.env.clone(),
            milli_cpu: resources.milli_cpu.max(MINIMUM_MILLI_CPU),
            // A validated manifest's sums fit.
            memory_bytes: resources
                .total_memory_bytes()
                .unwrap_or(resources.memory_bytes)
                .max(MINIMUM_MEMORY_BYTES),
            shared_memory_bytes: None,
            process_limit,
            storage_bytes: resources.total_storage_bytes().unwrap_or(resources.root_disk_bytes),
            volumes: Vec::new(),
            memory_volumes: Vec::new(),
            ports,
            gpus: resources.gpu.as_ref().map_or(0, |gpu| gpu.units),
        };
        for volume in &resources.volumes {
            let Some(mount) = &volume.mount else { continue };
            match volume.kind {
                VolumeKind::Memory if mount.path == SHARED_MEMORY_PATH => {
                    specification.shared_memory_bytes = Some(volume.bytes);
                }
                VolumeKind::Memory => specification.memory_volumes.push(MemoryMount {
                    path: mount.path.clone(),
                    bytes: volume.bytes,
                    read_only: mount.read_only,
                }),
                VolumeKind::Ephemeral | VolumeKind::Beta1 | VolumeKind::Beta2 | VolumeKind::Beta3 => {
                    specification.volumes.push(VolumeMount {
                        name: names.volume(service_name, replica, &volume.name),
                        path: mount.path.clone(),
                        read_only: mount.read_only,
                    })
                }
            }
        }
        specification
    }

    /// Digest of the whole: equal digests, equal specifications.
    pub fn digest(&self) -> String {
        // Every field is a plain value in declaration order: the same specification gives the same bytes.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(Sha256::digest(bytes))
    }
}

/// Every replica of a manifest, by service and number.
pub fn replicas(manifest: &Manifest) -> impl Iterator<Item = (&str, &Service, u32)> {
    manifest
        .services
        .iter()
        .flat_map(|(name, service)| (0..service.count).map(move |replica| (name.as_str(), service, replica)))
}
