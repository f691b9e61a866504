//! The `services` section: what runs, without how much it gets.

use std::collections::BTreeSet;

use crate::decode::{Decoder, Refusal, Value};
use crate::model::{Credentials, EnvironmentVariable, Expose, Mount, Protocol, PullPolicy, Secret};
use crate::report::{Position, quoted};
use crate::syntax;

/// The most services in a file.
pub const MAXIMUM_SERVICES: usize = 64;

/// The most ports of one service, ranges expanded.
pub const MAXIMUM_PORTS: usize = 256;

/// One entry of `services`.
pub(crate) struct ServiceSection<'t> {
    pub(crate) name: &'t str,
    pub(crate) position: Position,
    pub(crate) path: String,
    pub(crate) image: String,
    pub(crate) pull_policy: PullPolicy,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<EnvironmentVariable>,
    pub(crate) expose: Vec<Expose>,
    /// Names in `to: [{service: ...}]`, to be checked against the services that exist.
    pub(crate) grants: Vec<(String, Value<'t>)>,
    pub(crate) mounts: Vec<MountSection<'t>>,
}

/// One entry of `params.storage`.
pub(crate) struct MountSection<'t> {
    pub(crate) name: &'t str,
    pub(crate) position: Position,
    pub(crate) path: String,
    pub(crate) mount: Option<Mount>,
}

/// Every service of the section; those with problems are left out of the result, never out of the report.
pub(crate) fn read<'t>(decoder: &mut Decoder<'_>, section: &Value<'t>) -> Option<Vec<ServiceSection<'t>>> {
    let entries = section.named(decoder, "a mapping of services by name")?;
    if entries.is_empty() || entries.len() > MAXIMUM_SERVICES {
        let found = format!("{} services", entries.len());
        decoder.problem(
            section.position(),
            &section.path,
            found,
            format!("1 to {MAXIMUM_SERVICES} services"),
            None,
        );
        return None;
    }
    let mut services = Vec::with_capacity(entries.len());
    for (name, position, value) in &entries {
        check_name(decoder, name, *position, &section.path, "service");
        services.extend(read_service(decoder, name, *position, value));
    }
    Some(services)
}

/// Names of services, profiles and storage are DNS labels: containers, volumes and namespaces carry them.
pub(crate) fn check_name(decoder: &mut Decoder<'_>, name: &str, position: Position, path: &str, what: &str) {
    if let Err(refusal) = syntax::label(name) {
        let expected = refusal.expected.unwrap_or_default();
        decoder.problem(
            position,
            path,
            format!("the {what} {}", quoted(name)),
            expected,
            refusal.hint,
        );
    }
}

fn read_service<'t>(
    decoder: &mut Decoder<'_>,
    name: &'t str,
    position: Position,
    value: &Value<'t>,
) -> Option<ServiceSection<'t>> {
    let mut keys = value.mapping(decoder, "a mapping with `image` and what else the service needs")?;
    let image = keys
        .required(decoder, "image", "the container image, for example nginx:1.27")
        .and_then(|value| {
            value.parse(decoder, "an image", |text| {
                syntax::image(text).map(|()| text.to_owned())
            })
        });
    let pull_policy = match keys.optional("pull_policy") {
        Some(value) => read_pull_policy(decoder, &value),
        None => image.as_deref().map(default_pull_policy),
    };
    let credentials = match keys.optional("credentials") {
        Some(value) => read_credentials(decoder, &value.secret()).map(Some),
        None => Some(None),
    };
    let command = read_texts(
        decoder,
        keys.optional("command"),
        "a list of texts such as [sh, -c, \"...\"]",
    );
    let args = read_texts(decoder, keys.optional("args"), "a list of texts such as [--verbose]");
    let env = keys
        .optional("env")
        .map_or(Some(Vec::new()), |value| read_environment(decoder, &value));
    let mut grants = Vec::new();
    let expose = match keys.optional("expose") {
        Some(value) => read_exposes(decoder, &value, &mut grants),
        None => Some(Vec::new()),
    };
    let mounts = keys
        .optional("params")
        .map_or(Some(Vec::new()), |value| read_params(decoder, &value));
    keys.unsupported(
        decoder,
        "dependencies",
        "services start together; retry until the other one answers",
    );
    keys.unsupported(
        decoder,
        "depends-on",
        "services start together; retry until the other one answers",
    );
    let path = keys.path().to_owned();
    keys.finish(decoder);
    Some(ServiceSection {
        name,
        position,
        path,
        image: image?,
        pull_policy: pull_policy?,
        credentials: credentials?,
        command: command?,
        args: args?,
        env: env?,
        expose: expose?,
        grants,
        mounts: mounts?,
    })
}

fn read_pull_policy(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<PullPolicy> {
    value.parse(decoder, "Always, IfNotPresent or Never", |text| match text {
        "Always" => Ok(PullPolicy::Always),
        "IfNotPresent" => Ok(PullPolicy::IfNotPresent),
        "Never" => Ok(PullPolicy::Never),
        other => {
            let near = crate::decode::nearest(other, &["Always", "IfNotPresent", "Never"]);
            Err(near.map_or_else(Refusal::default, |near| {
                Refusal::default().hint(format!("write `{near}`"))
            }))
        }
    })
}

fn default_pull_policy(image: &str) -> PullPolicy {
    if syntax::has_moving_tag(image) {
        PullPolicy::Always
    } else {
        PullPolicy::IfNotPresent
    }
}

fn read_credentials(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<Credentials> {
    let mut keys = value.mapping(decoder, "a mapping with registry, username and password")?;
    let registry = keys.any_of(decoder, &["registry", "host"]);
    if registry.is_none() {
        let expected = "`registry`: the registry's host, for example ghcr.io";
        decoder.problem(keys.position(), keys.path(), "no `registry`", expected, None);
    }
    let registry = registry.and_then(|value| {
        value.parse(decoder, "a registry's host", |text| {
            let host = text.trim_end_matches('/').to_ascii_lowercase();
            syntax::registry(&host).map(|()| host)
        })
    });
    let text = |value: Value<'_>, decoder: &mut Decoder<'_>| {
        value.parse(decoder, "a text", |text| {
            if text.is_empty() {
                Err(Refusal::expected("a text that is not empty"))
            } else {
                Ok(text.to_owned())
            }
        })
    };
    let username = keys.required(decoder, "username", "the account at the registry");
    let username = username.and_then(|value| text(value, decoder));
    let password = keys.required(decoder, "password", "the password or token for the registry");
    let password = password.and_then(|value| text(value, decoder)).map(Secret::new);
    keys.unsupported(decoder, "email", "registries do not ask for it any more");
    keys.finish(decoder);
    Some(Credentials {
        registry: registry?,
        username: username?,
        password: password?,
    })
}

fn read_texts(decoder: &mut Decoder<'_>, value: Option<Value<'_>>, expected: &str) -> Option<Vec<String>> {
    let Some(value) = value else { return Some(Vec::new()) };
    if value.is_scalar() {
        value.refuse_with_hint(decoder, expected, "a shell line is written as [sh, -c, \"the line\"]");
        return None;
    }
    let items = value.items(decoder, expected)?;
    let mut texts = Vec::with_capacity(items.len());
    for item in &items {
        let text = item.parse(decoder, "a text", |text| {
            syntax::process_text(text).map(|()| text.to_owned())
        });
        texts.extend(text);
    }
    (texts.len() == items.len()).then_some(texts)
}

fn read_environment(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<Vec<EnvironmentVariable>> {
    const EXPECTED: &str = "a list of NAME=value";
    let items = value.clone().secret().items(decoder, EXPECTED)?;
    let mut names = BTreeSet::new();
    let mut variables = Vec::with_capacity(items.len());
    for item in &items {
        if !item.is_scalar() {
            item.refuse_with_hint(decoder, "NAME=value", "write `- NAME=value`, not `- NAME: value`");
            continue;
        }
        let variable = item.parse(decoder, "NAME=value", |text| {
            let (name, value) = text.split_once('=').ok_or_else(Refusal::default)?;
            syntax::environment_name(name)?;
            syntax::process_text(value)?;
            Ok((name.to_owned(), Secret::new(value)))
        });
        let Some((name, value)) = variable else { continue };
        if value.expose().is_empty() {
            decoder.warn(item, format!("{name} is empty"));
        }
        if names.insert(name.clone()) {
            variables.push(EnvironmentVariable { name, value });
        } else {
            decoder.problem(
                item.position(),
                &item.path,
                format!("{name} again"),
                "each variable once",
                None,
            );
        }
    }
    (variables.len() == items.len()).then_some(variables)
}

fn read_exposes<'t>(
    decoder: &mut Decoder<'_>,
    value: &Value<'t>,
    grants: &mut Vec<(String, Value<'t>)>,
) -> Option<Vec<Expose>> {
    let items = value.items(decoder, "a list of ports, each with `port` and `to`")?;
    let mut exposes: Vec<Expose> = Vec::with_capacity(items.len());
    let mut seen = BTreeSet::new();
    let mut complete = true;
    for item in &items {
        let Some(ports) = read_expose(decoder, item, grants) else {
            complete = false;
            continue;
        };
        for expose in ports {
            if !seen.insert((expose.port, expose.protocol)) {
                let found = format!("port {}/{} again", expose.port, expose.protocol);
                decoder.problem(item.position(), &item.path, found, "each port and protocol once", None);
                complete = false;
            } else if exposes.len() >= MAXIMUM_PORTS {
                let expected = format!("at most {MAXIMUM_PORTS} ports");
                decoder.problem(item.position(), &item.path, "too many ports", expected, None);
                return None;
            } else {
                exposes.push(expose);
            }
        }
    }
    complete.then_some(exposes)
}

fn read_expose<'t>(
    decoder: &mut Decoder<'_>,
    value: &Value<'t>,
    grants: &mut Vec<(String, Value<'t>)>,
) -> Option<Vec<Expose>> {
    let mut keys = value.mapping(decoder, "a mapping with `port` and `to`")?;
    let port = keys
        .optional("port")
        .map(|value| (value.parse(decoder, "a port", syntax::port), value));
    let external = keys
        .optional("as")
        .map(|value| (value.parse(decoder, "a port", syntax::port), value));
    let range = keys.optional("port_range");
    let range = range.map(|value| (value.parse(decoder, "a range of ports", syntax::port_range), value));
    let range_as = keys.optional("port_range_as");
    let range_as = range_as.map(|value| (value.parse(decoder, "a range of ports", syntax::port_range), value));
    let protocol = keys.optional("proto").map_or(Some(Protocol::Tcp), |value| {
        value.parse(decoder, "tcp or udp", |text| match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "http" | "https" => Err(Refusal::default().hint("HTTP is tcp; `as: 80` makes it a website")),
            _ => Err(Refusal::default()),
        })
    });
    let accept = keys
        .optional("accept")
        .map_or(Some(Vec::new()), |value| read_host_names(decoder, &value));
    let public_port = keys
        .optional("use_public_port")
        .and_then(|value| value.boolean(decoder).zip(Some(value)));
    if let Some((true, value)) = &public_port {
        decoder.warn(
            value,
            "`use_public_port` is accepted but has no effect: containers keep their own port",
        );
    }
    keys.unsupported(decoder, "http_options", "the provider's ingress keeps its own limits");
    let audience = keys
        .optional("to")
        .map_or(Some(Audience::default()), |value| read_to(decoder, &value, grants));
    let (position, path) = (keys.position(), keys.path().to_owned());
    keys.finish(decoder);
    if port.is_none() && range.is_none() {
        let expected = "`port` (or `port_range`): the container's port";
        decoder.problem(position, &path, "no `port`", expected, None);
        return None;
    }
    if let (None, Some((_, value))) = (&port, &external) {
        value.refuse(decoder, "`port` beside `as` (for a range: `port_range_as`)");
        return None;
    }
    let mut ports = match port {
        Some((port, _)) => vec![(port?, external.map_or(Some(None), |(external, _)| external.map(Some))?)],
        None => Vec::new(),
    };
    ports.extend(expand_ranges(decoder, range, range_as)?);
    let (protocol, accept, audience) = (protocol?, accept?, audience?);
    if !audience.global && audience.services.is_empty() {
        let message = "reachable by nobody outside the deployment: `to: [{global: true}]` opens it to the internet";
        decoder.warn_at(position, &path, message);
    }
    let expose = |(port, external_port): (u16, Option<u16>)| Expose {
        port,
        external_port,
        protocol,
        global: audience.global,
        services: audience.services.clone(),
        accept: accept.clone(),
    };
    Some(ports.into_iter().map(expose).collect())
}

type ReadRange<'t> = Option<(Option<(u16, u16)>, Value<'t>)>;

/// Every port of `port_range` with its wish from `port_range_as`.
fn expand_ranges(
    decoder: &mut Decoder<'_>,
    range: ReadRange<'_>,
    range_as: ReadRange<'_>,
) -> Option<Vec<(u16, Option<u16>)>> {
    let Some((range, range_value)) = range else {
        if let Some((_, value)) = range_as {
            value.refuse(decoder, "`port_range` beside `port_range_as`");
            return None;
        }
        return Some(Vec::new());
    };
    let (first, last) = range?;
    if usize::from(last - first) >= MAXIMUM_PORTS {
        range_value.refuse(decoder, format!("at most {MAXIMUM_PORTS} ports"));
        return None;
    }
    let Some((range_as, value_as)) = range_as else {
        return Some((first..=last).map(|port| (port, None)).collect());
    };
    let (first_as, last_as) = range_as?;
    if last_as - first_as != last - first {
        value_as.refuse(
            decoder,
            format!("as many ports as `port_range` has ({})", u32::from(last - first) + 1),
        );
        return None;
    }
    Some(
        (first..=last)
            .zip(first_as..=last_as)
            .map(|(port, external)| (port, Some(external)))
            .collect(),
    )
}

fn read_host_names(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.items(decoder, "a list of host names")?;
    let name = |text: &str| {
        let lower = text.to_ascii_lowercase();
        syntax::host_name(&lower).map(|()| lower)
    };
    let names: Vec<String> = items
        .iter()
        .filter_map(|item| item.parse(decoder, "a host name", name))
        .collect();
    (names.len() == items.len()).then_some(names)
}

/// Who may connect to a port.
#[derive(Default)]
struct Audience {
    global: bool,
    services: BTreeSet<String>,
}

fn read_to<'t>(
    decoder: &mut Decoder<'_>,
    value: &Value<'t>,
    grants: &mut Vec<(String, Value<'t>)>,
) -> Option<Audience> {
    const EXPECTED: &str = "a list of `global: true` and `service: NAME`";
    let items = value.items(decoder, EXPECTED)?;
    let mut audience = Audience::default();
    let mut complete = true;
    for item in &items {
        let Some(mut keys) = item.mapping(decoder, "`global: true` or `service: NAME`") else {
            complete = false;
            continue;
        };
        match keys.optional("global").map(|value| value.boolean(decoder)) {
            Some(Some(global)) => audience.global |= global,
            Some(None) => complete = false,
            None => {}
        }
        if let Some(service) = keys.optional("service") {
            match service.text(decoder, "a service's name") {
                Some(name) => {
                    audience.services.insert(name.to_owned());
                    grants.push((name.to_owned(), service));
                }
                None => complete = false,
            }
        }
        keys.unsupported(
            decoder,
            "ip",
            "leased IP addresses do not exist here; the port is mapped on the provider's",
        );
        keys.unsupported(decoder, "http_options", "the provider's ingress keeps its own limits");
        keys.finish(decoder);
    }
    complete.then_some(audience)
}

fn read_params<'t>(decoder: &mut Decoder<'_>, value: &Value<'t>) -> Option<Vec<MountSection<'t>>> {
    let mut keys = value.mapping(decoder, "a mapping with `storage`")?;
    let storage = keys.optional("storage");
    keys.finish(decoder);
    let Some(storage) = storage else {
        return Some(Vec::new());
    };
    let entries = storage.named(decoder, "a mapping of mounts by storage name")?;
    let mut mounts = Vec::with_capacity(entries.len());
    for (name, position, value) in &entries {
        let mount = if value.is_null() {
            Some(None)
        } else {
            read_mount(decoder, value).map(Some)
        };
        mounts.extend(mount.map(|mount| MountSection {
            name,
            position: *position,
            path: value.path.clone(),
            mount,
        }));
    }
    (mounts.len() == entries.len()).then_some(mounts)
}

fn read_mount(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<Mount> {
    let mut keys = value.mapping(decoder, "a mapping with `mount`")?;
    let path = keys.required(
        decoder,
        "mount",
        "where it is mounted in the container, for example /data",
    );
    let path = path.and_then(|value| {
        value.parse(decoder, "an absolute path", |text| {
            syntax::mount_path(text).map(|()| text.to_owned())
        })
    });
    let read_only = keys.any_of(decoder, &["readOnly", "read_only"]);
    let read_only = read_only.map_or(Some(false), |value| value.boolean(decoder));
    keys.finish(decoder);
    Some(Mount {
        path: path?,
        read_only: read_only?,
    })
}
