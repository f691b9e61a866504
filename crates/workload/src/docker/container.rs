//! A specification in the engine's words.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountTmpfsOptions, MountType, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};

use super::labels::Labels;
use super::settings::Settings;
use crate::specification::ContainerSpecification;

/// What containers may not do beside the engine's defaults. Published images change owners and users, so the rest of
/// the default capabilities stays.
const DROPPED_CAPABILITIES: [&str; 2] = ["NET_RAW", "MKNOD"];

/// What the engine is asked to create.
pub(super) fn body(
    specification: &ContainerSpecification,
    network: &str,
    labels: Labels,
    settings: &Settings,
) -> ContainerCreateBody {
    let aliases = vec![
        specification.service.clone(),
        format!("{}-{}", specification.service, specification.replica),
    ];
    ContainerCreateBody {
        hostname: Some(specification.hostname.clone()),
        image: Some(specification.image_id.clone()),
        entrypoint: non_empty(&specification.command),
        cmd: non_empty(&specification.args),
        env: Some(
            specification
                .env
                .iter()
                .map(|variable| format!("{}={}", variable.name, variable.value.expose()))
                .collect(),
        ),
        exposed_ports: Some(specification.ports.iter().map(port_name).collect()),
        labels: Some(labels),
        host_config: Some(host_config(specification, network, settings)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(
                network.to_owned(),
                EndpointSettings {
                    aliases: Some(aliases),
                    ..EndpointSettings::default()
                },
            )])),
        }),
        ..ContainerCreateBody::default()
    }
}

fn host_config(specification: &ContainerSpecification, network: &str, settings: &Settings) -> HostConfig {
    let memory = signed(specification.memory_bytes);
    HostConfig {
        nano_cpus: Some(signed(specification.milli_cpu.saturating_mul(1_000_000))),
        memory: Some(memory),
        // Memory and swap together: equal to memory means no swap.
        memory_swap: Some(memory),
        pids_limit: Some(signed(specification.process_limit)),
        shm_size: specification.shared_memory_bytes.map(signed),
        cap_drop: Some(DROPPED_CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        network_mode: Some(network.to_owned()),
        dns: non_empty(&settings.name_servers.iter().map(IpAddr::to_string).collect::<Vec<_>>()),
        port_bindings: Some(
            specification
                .ports
                .iter()
                .map(|port| {
                    let binding = PortBinding {
                        host_ip: Some(settings.publish_address.to_string()),
                        host_port: Some(port.host_port.to_string()),
                    };
                    (port_name(port), Some(vec![binding]))
                })
                .collect(),
        ),
        mounts: Some(mounts(specification)),
        // The engine would start containers by itself after a reboot, before anybody has put the isolation rules in
        // force: the agent starts them, after it has.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "10m".to_owned()),
                ("max-file".to_owned(), "3".to_owned()),
            ])),
        }),
        device_requests: (specification.gpus > 0).then(|| {
            vec![DeviceRequest {
                driver: Some("nvidia".to_owned()),
                count: Some(i64::from(specification.gpus)),
                capabilities: Some(vec![vec!["gpu".to_owned()]]),
                ..DeviceRequest::default()
            }]
        }),
        ..HostConfig::default()
    }
}

/// Volumes of the lease and tmpfs: never a path of the host.
fn mounts(specification: &ContainerSpecification) -> Vec<Mount> {
    let volumes = specification.volumes.iter().map(|volume| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.name.clone()),
        target: Some(volume.path.clone()),
        read_only: Some(volume.read_only),
        ..Mount::default()
    });
    let memory = specification.memory_volumes.iter().map(|volume| Mount {
        typ: Some(MountType::TMPFS),
        target: Some(volume.path.clone()),
        read_only: Some(volume.read_only),
        tmpfs_options: Some(MountTmpfsOptions {
            size_bytes: Some(signed(volume.bytes)),
            ..MountTmpfsOptions::default()
        }),
        ..Mount::default()
    });
    volumes.chain(memory).collect()
}

fn port_name(port: &crate::model::AssignedPort) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

fn non_empty(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
