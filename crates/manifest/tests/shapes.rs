//! Every construct that published deployment files use, in small files of our own.

use manifest::{Gpu, GpuKind, Manifest, Mode, Protocol, PullPolicy, Service, VolumeKind, parse};

/// A file of one service; the parts are indented as YAML wants them there.
fn file(service: &str, profiles: &str, resources: &str, attributes: &str) -> String {
    format!(
        "version: \"1.0\"\nservices:\n  app:\n    image: example/app:1\n{service}\
         profiles:\n  duration: 1h\n{profiles}  compute:\n    app:\n{resources}\
         \x20 placement:\n    any:\n{attributes}      pricing:\n        app: {{token: uSPON, amount: 1}}\n\
         deployment:\n  app:\n    any: {{profile: app, count: 1}}\n"
    )
}

const RESOURCES: &str = "      resources: {cpu: {units: 1}, memory: {size: 1Gi}, storage: {size: 2Gi}}\n";
const MODE: &str = "  mode: provider\n";

fn accept(text: &str) -> (Manifest, Vec<String>) {
    let deployment = parse("app.yaml", text.as_bytes()).unwrap_or_else(|report| panic!("{report}\n{text}"));
    let warnings = deployment
        .warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.path, warning.message));
    (deployment.manifest, warnings.collect())
}

fn accept_quietly(text: &str) -> Manifest {
    let (manifest, warnings) = accept(text);
    assert_eq!(warnings, Vec::<String>::new(), "{text}");
    manifest
}

fn app(manifest: &Manifest) -> &Service {
    &manifest.services["app"]
}

fn with_service(service: &str) -> Manifest {
    accept_quietly(&file(service, MODE, RESOURCES, ""))
}

fn with_resources(resources: &str) -> Manifest {
    accept_quietly(&file("", MODE, resources, ""))
}

#[test]
fn the_smallest_file_has_defaults() {
    let manifest = accept_quietly(&file("", MODE, RESOURCES, ""));
    assert_eq!(
        (manifest.requirements.mode, manifest.requirements.duration_seconds),
        (Mode::Provider, 3_600)
    );
    assert_eq!(
        manifest.requirements.tiers.iter().copied().collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7]
    );
    assert_eq!(
        (manifest.name.as_deref(), manifest.requirements.placement.label.as_str()),
        (None, "any")
    );
    let app = app(&manifest);
    assert_eq!(
        (app.pull_policy, app.count, app.hourly_price.to_string().as_str()),
        (PullPolicy::IfNotPresent, 1, "1")
    );
    assert!(app.command.is_empty() && app.args.is_empty() && app.env.is_empty() && app.expose.is_empty());
}

#[test]
fn an_absent_mode_is_provider_and_said() {
    let (manifest, warnings) = accept(&file("", "", RESOURCES, ""));
    assert_eq!(manifest.requirements.mode, Mode::Provider);
    assert_eq!(warnings, ["profiles: no `mode`: taken as `provider`"]);
}

#[test]
fn images_and_their_pull_policies() {
    let policy = |image: &str| {
        let text = file("", MODE, RESOURCES, "").replace("example/app:1", image);
        app(&accept_quietly(&text)).pull_policy
    };
    let digest = format!("quay.io/org/app@sha256:{}", "a1".repeat(32));
    assert_eq!(policy("wordpress"), PullPolicy::Always);
    assert_eq!(policy("org/app:latest"), PullPolicy::Always);
    assert_eq!(policy("localhost:5000/app"), PullPolicy::Always);
    assert_eq!(policy("org/app:1.2-cuda"), PullPolicy::IfNotPresent);
    assert_eq!(policy("lscr.io/org/code-server:4.9"), PullPolicy::IfNotPresent);
    assert_eq!(policy(&digest), PullPolicy::IfNotPresent);
    let written = with_service("    pull_policy: Never\n");
    assert_eq!(app(&written).pull_policy, PullPolicy::Never);
}

#[test]
fn commands_are_lists_blocks_and_numbers() {
    let manifest = with_service(
        "    command:\n      - /bin/sh\n      - -c\n      - |\n        # find it\n        PORT=${PORT:-8000}\n        exec serve --port $PORT \\\n          --quiet\n    args: ['one \"two\"', 3, true]\n",
    );
    let script = "# find it\nPORT=${PORT:-8000}\nexec serve --port $PORT \\\n  --quiet\n";
    assert_eq!(app(&manifest).command, ["/bin/sh", "-c", script]);
    assert_eq!(app(&manifest).args, ["one \"two\"", "3", "true"]);
}

#[test]
fn environments_keep_order_empty_values_and_everything_after_the_first_equals_sign() {
    let (manifest, warnings) = accept(&file(
        "    env:\n      - B=x=y z\n      - A=$HOME\n      - HEAD_NODE=\n",
        MODE,
        RESOURCES,
        "",
    ));
    let env = &app(&manifest).env;
    let shown: Vec<_> = env
        .iter()
        .map(|variable| (variable.name.as_str(), variable.value.expose()))
        .collect();
    assert_eq!(shown, [("B", "x=y z"), ("A", "$HOME"), ("HEAD_NODE", "")]);
    assert_eq!(warnings, ["services.app.env[2]: HEAD_NODE is empty"]);
    assert!(app(&with_service("    env:\n")).env.is_empty());
}

#[test]
fn credentials_by_either_name_of_the_registry() {
    for key in ["registry", "host"] {
        let text = format!("    credentials: {{{key}: GHCR.io, username: u, password: 'p w'}}\n");
        let manifest = with_service(&text);
        let credentials = app(&manifest).credentials.as_ref().expect("credentials");
        assert_eq!(
            (credentials.registry.as_str(), credentials.username.as_str()),
            ("ghcr.io", "u")
        );
        assert_eq!(credentials.password.expose(), "p w");
    }
}

#[test]
fn ports_with_wishes_protocols_hosts_and_audiences() {
    let manifest = with_service(
        "    expose:\n      - {port: 80, as: 8080, to: [{global: true}], accept: [Www.Example.org]}\n      - {port: 53, proto: UDP, to: [{global: false}, {service: app}]}\n",
    );
    let [web, dns] = app(&manifest).expose.as_slice() else {
        panic!("two ports")
    };
    assert_eq!(
        (web.port, web.external_port, web.protocol, web.global),
        (80, Some(8080), Protocol::Tcp, true)
    );
    assert_eq!(
        (web.accept.as_slice(), web.is_http()),
        (&["www.example.org".to_owned()][..], false)
    );
    assert_eq!(
        (dns.port, dns.external_port, dns.protocol, dns.global),
        (53, None, Protocol::Udp, false)
    );
    assert_eq!(dns.services.iter().collect::<Vec<_>>(), ["app"]);
}

#[test]
fn port_ranges_become_single_ports() {
    let manifest = with_service(
        "    expose:\n      - port: 9000\n        port_range: 8443-8445\n        port_range_as: 9443-9445\n        to:\n          - global: true\n",
    );
    let ports: Vec<_> = app(&manifest)
        .expose
        .iter()
        .map(|expose| (expose.port, expose.external_port))
        .collect();
    assert_eq!(
        ports,
        [(9000, None), (8443, Some(9443)), (8444, Some(9444)), (8445, Some(9445))]
    );
}

#[test]
fn a_port_for_nobody_is_said() {
    let (manifest, warnings) = accept(&file(
        "    expose: [{port: 80, to: [{global: false}]}]\n",
        MODE,
        RESOURCES,
        "",
    ));
    assert!(!app(&manifest).expose[0].global);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("reachable by nobody"), "{warnings:?}");
}

#[test]
fn keys_without_effect_are_accepted_and_said() {
    let service = "    dependencies: [{service: app}]\n    expose:\n      - port: 80\n        use_public_port: true\n        http_options: {max_body_size: 1}\n        to: [{global: true, ip: meow}]\n";
    let attributes = "      attributes: {cpu_model: epyc, bandwidth: 100mbps}\n      signedBy: {anyOf: [a]}\n";
    let resources = "      resources: {cpu: {units: 1, attributes: {arch: {arm64: [{model: m3pro}]}}}, memory: {size: 1Gi}, storage: {size: 1Gi}}\n";
    let (_, warnings) = accept(&file(service, MODE, resources, attributes));
    let expected = [
        "services.app.dependencies",
        "services.app.expose[0].use_public_port",
        "services.app.expose[0].http_options",
        "services.app.expose[0].to[0].ip",
        "profiles.compute.app.resources.cpu.attributes",
        "profiles.placement.any.attributes.cpu_model",
        "profiles.placement.any.attributes.bandwidth",
        "profiles.placement.any.signedBy",
    ];
    let paths: Vec<_> = warnings
        .iter()
        .map(|warning| warning.split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(paths, expected);
}

#[test]
fn durations_and_tiers() {
    let seconds = |text: &str| {
        let profiles = format!("{MODE}  tier: [{text}]\n");
        accept(&file("", &profiles, RESOURCES, ""))
            .0
            .requirements
            .tiers
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(seconds("secured"), [1, 2, 3]);
    assert_eq!(seconds("community"), [4, 5, 6, 7]);
    assert_eq!(seconds("secured-2, community-4"), [2, 7]);
    assert_eq!(seconds("secure, community-1"), [1, 2, 3, 4]);
    let single = accept_quietly(&file("", &format!("{MODE}  tiers: Community-1\n"), RESOURCES, ""));
    assert_eq!(single.requirements.tiers.into_iter().collect::<Vec<_>>(), [4]);
    for (text, expected) in [
        ("90s", 90),
        ("30min", 1_800),
        ("1d", 86_400),
        ("1mon", 2_592_000),
        ("1y", 31_536_000),
    ] {
        let file = file("", MODE, RESOURCES, "").replace("duration: 1h", &format!("duration: {text}"));
        assert_eq!(accept_quietly(&file).requirements.duration_seconds, expected, "{text}");
    }
}

#[test]
fn resources_in_the_long_and_the_short_form() {
    let long = with_resources(RESOURCES);
    let short = with_resources("      cpu: 1\n      memory: \"1Gi\"\n      storage: \"2Gi\"\n");
    assert_eq!(app(&long).resources, app(&short).resources);
    let resources = &app(&long).resources;
    assert_eq!(
        (resources.milli_cpu, resources.memory_bytes, resources.root_disk_bytes),
        (1_000, 1 << 30, 2 << 30)
    );
    let odd = with_resources("      resources: {cpu: {units: 100m}, memory: {size: 0.5G}, storage: [{size: 1.5Mi}]}\n");
    let odd = &app(&odd).resources;
    assert_eq!(
        (odd.milli_cpu, odd.memory_bytes, odd.root_disk_bytes),
        (100, 500_000_000, 3 << 19)
    );
}

#[test]
fn named_storage_is_mounted_by_its_name() {
    let service = "    params:\n      storage:\n        default: {mount: /data, readOnly: true}\n        shm: {mount: /dev/shm}\n";
    let resources = "      resources:\n        cpu: {units: 1}\n        memory: {size: 1Gi}\n        storage:\n          - {name: default, size: 5Gi, attributes: {persistent: true, class: beta3}}\n          - {name: shm, size: 2Gi, attributes: {persistent: false, class: ram}}\n";
    let manifest = accept_quietly(&file(service, MODE, resources, ""));
    let resources = &app(&manifest).resources;
    let volumes: Vec<_> = resources
        .volumes
        .iter()
        .map(|volume| (volume.name.as_str(), volume.kind))
        .collect();
    assert_eq!(volumes, [("default", VolumeKind::Beta3), ("shm", VolumeKind::Memory)]);
    let mount = resources.volumes[0].mount.as_ref().expect("mounted");
    assert_eq!((mount.path.as_str(), mount.read_only), ("/data", true));
    assert_eq!(resources.root_disk_bytes, 0);
    assert_eq!(
        (resources.total_memory_bytes(), resources.total_storage_bytes()),
        (Some(3 << 30), Some(5 << 30))
    );
}

#[test]
fn one_named_storage_may_stand_without_a_list() {
    let service = "    params: {storage: {default: {mount: /mnt/data}}}\n";
    let resources = "      resources:\n        cpu: {units: 1}\n        memory: {size: 1Gi}\n        storage:\n          name: \"default\"\n          size: 200Gi\n          attributes:\n            persistent: true\n            class: beta3\n";
    let manifest = accept_quietly(&file(service, MODE, resources, ""));
    assert!(app(&manifest).resources.volumes[0].kind.is_persistent());
    let (_, warnings) = accept(&file("", MODE, resources, ""));
    assert_eq!(
        warnings,
        ["profiles.compute.app.resources: the storage `default` is paid for but mounted nowhere by `app`"]
    );
}

#[test]
fn gpus_by_vendor_model_memory_and_interface() {
    let gpu = |text: &str| {
        let resources = format!("      resources: {{cpu: 1, memory: 1Gi, storage: 1Gi, gpu: {text}}}\n");
        app(&with_resources(&resources)).resources.gpu.clone()
    };
    let kind = |model: Option<&str>, memory: Option<u64>, interface: Option<&str>| GpuKind {
        vendor: "nvidia".to_owned(),
        model: model.map(str::to_owned),
        minimum_memory_bytes: memory,
        interface: interface.map(str::to_owned),
    };
    assert_eq!(
        gpu("{units: 2}"),
        Some(Gpu {
            units: 2,
            accept: vec![]
        })
    );
    assert_eq!(gpu("{units: 0}"), None);
    let any = gpu("{units: 1, attributes: {vendor: {nvidia: }}}");
    assert_eq!(
        any,
        Some(Gpu {
            units: 1,
            accept: vec![kind(None, None, None)]
        })
    );
    let several =
        gpu("{units: 1, attributes: {vendor: {nvidia: [{model: T4}, {model: rtx3090Ti, ram: 24Gi}, {model: T4}]}}}");
    let expected = vec![
        kind(Some("rtx3090ti"), Some(24 << 30), None),
        kind(Some("t4"), None, None),
    ];
    assert_eq!(
        several,
        Some(Gpu {
            units: 1,
            accept: expected
        })
    );
    let exact = gpu("{units: 1, attributes: {req_vram: \">=80\", vendor: {nvidia: [{model: h100, interface: SXM}]}}}");
    assert_eq!(
        exact,
        Some(Gpu {
            units: 1,
            accept: vec![kind(Some("h100"), None, Some("sxm"))]
        })
    );
}

#[test]
fn placements_with_every_filter() {
    let address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let other = "0x00000000000000000000000000000000000000aa";
    let attributes = format!(
        "      attributes:\n        region: US-East; eu-west\n        exclude_region: ap-south\n        desired_provider: \"{address}\"\n        provider_exclude: \"{other}\"\n        desired_fizz: \"{address};{other}\"\n"
    );
    let manifest = accept_quietly(&file("", "  mode: fizz\n", RESOURCES, &attributes));
    let placement = &manifest.requirements.placement;
    assert_eq!(placement.regions.iter().collect::<Vec<_>>(), ["eu-west", "us-east"]);
    assert_eq!(placement.excluded_regions.iter().collect::<Vec<_>>(), ["ap-south"]);
    assert_eq!(
        (
            placement.providers.len(),
            placement.excluded_providers.len(),
            placement.fizz_nodes.len()
        ),
        (1, 1, 2)
    );
    accept_quietly(&file("", MODE, RESOURCES, "      attributes:\n"));
}

#[test]
fn prices_by_the_old_name_of_the_token() {
    let text = file("", MODE, RESOURCES, "").replace("token: uSPON", "denom: USDT");
    assert_eq!(accept_quietly(&text).requirements.token, "USDT");
}

#[test]
fn services_and_profiles_that_nothing_uses_are_said() {
    let text = file("", MODE, RESOURCES, "")
        .replace("  app:\n    image: example/app:1\n", "  app:\n    image: example/app:1\n    expose: [{port: 1, to: [{service: idle}]}]\n  idle:\n    image: idle:1\n")
        .replace("  placement:", "    spare: {cpu: 1, memory: 1Gi, storage: 1Gi}\n  placement:");
    let (manifest, warnings) = accept(&text);
    assert_eq!(manifest.services.len(), 1);
    assert!(
        app(&manifest).expose[0].services.is_empty(),
        "who does not run needs no grant"
    );
    let expected = [
        "services.idle: not in `deployment`: it will not run",
        "profiles.compute.spare: no service of `deployment` uses this profile",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn one_profile_may_serve_several_services() {
    let text = file("", MODE, RESOURCES, "")
        .replace("profiles:\n", "  other:\n    image: other:1\nprofiles:\n")
        .replace(
            "deployment:\n",
            "deployment:\n  other:\n    any: {profile: app, count: 3}\n",
        );
    let manifest = accept_quietly(&text);
    assert_eq!(manifest.services["other"].resources, app(&manifest).resources);
    assert_eq!(manifest::hourly_total(&manifest), "4");
}

#[test]
fn anchors_comments_and_byte_order_marks_are_yaml() {
    let text = file(
        "",
        MODE,
        "      resources: &all {cpu: 1, memory: 1Gi, storage: 1Gi} # all\n    spare:\n      resources: *all\n",
        "",
    );
    let (manifest, _) = accept(&format!("\u{feff}# first\n---\n{text}...\n"));
    assert_eq!(app(&manifest).resources.milli_cpu, 1_000);
}

#[test]
fn windows_line_ends_are_the_same_file() {
    let text = file("    env: [A=b]\n", MODE, RESOURCES, "");
    assert_eq!(accept_quietly(&text), accept_quietly(&text.replace('\n', "\r\n")));
}
