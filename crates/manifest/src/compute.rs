//! One entry of `profiles.compute`: how much one container gets.

use std::collections::BTreeSet;

use crate::decode::{Decoder, Refusal, Value};
use crate::model::{Gpu, GpuKind, Resources, Volume, VolumeKind};
use crate::report::Position;
use crate::services::check_name;
use crate::syntax;

/// The most storage entries of one profile.
pub const MAXIMUM_VOLUMES: usize = 32;

/// The most acceptable kinds of GPU in one profile.
pub const MAXIMUM_GPU_KINDS: usize = 159;

/// The most GPUs of one container.
pub const MAXIMUM_GPUS: u32 = 4_095;

/// The least memory that an engine gives a container.
pub const MINIMUM_MEMORY_BYTES: u64 = 6 * 1024 * 1024;

/// A compute profile that could be read.
pub(crate) struct ComputeSection<'t> {
    pub(crate) name: &'t str,
    pub(crate) position: Position,
    pub(crate) path: String,
    pub(crate) resources: Resources,
    /// Where the GPU requirement stands, for comparison with other profiles'.
    pub(crate) gpu_place: Option<(Position, String)>,
}

pub(crate) fn read<'t>(
    decoder: &mut Decoder<'_>,
    name: &'t str,
    position: Position,
    value: &Value<'t>,
) -> Option<ComputeSection<'t>> {
    let mut keys = value.mapping(decoder, "a mapping with `resources`")?;
    // The short form of the documentation leaves the level `resources` out.
    let resources = keys.optional("resources");
    let mut keys = match &resources {
        Some(inner) => {
            keys.finish(decoder);
            inner.mapping(decoder, "a mapping with cpu, memory, storage and, maybe, gpu")?
        }
        None => keys,
    };
    let cpu = keys.required(decoder, "cpu", "CPU cores, for example {units: 0.5}");
    let milli_cpu = cpu.and_then(|value| read_cpu(decoder, &value));
    let memory = keys.required(decoder, "memory", "for example {size: 512Mi}");
    let memory_bytes = memory.and_then(|value| read_memory(decoder, &value));
    let storage = keys.required(decoder, "storage", "for example {size: 1Gi}, or a list of them");
    let storage = storage.and_then(|value| read_storage(decoder, &value));
    let gpu = keys.optional("gpu");
    let gpu_place = gpu.as_ref().map(|value| (value.position(), value.path.clone()));
    let gpu = gpu.map_or(Some(None), |value| read_gpu(decoder, &value));
    let path = keys.path().to_owned();
    keys.finish(decoder);
    let (root_disk_bytes, volumes) = storage?;
    let resources = Resources {
        milli_cpu: milli_cpu?,
        memory_bytes: memory_bytes?,
        root_disk_bytes,
        volumes,
        gpu: gpu?,
    };
    Some(ComputeSection {
        name,
        position,
        path,
        resources,
        gpu_place,
    })
}

fn read_cpu(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<u64> {
    const EXPECTED: &str = "CPU cores";
    if value.is_scalar() {
        return value.parse(decoder, EXPECTED, syntax::milli_cpu);
    }
    let mut keys = value.mapping(decoder, "a mapping with `units`")?;
    let units = keys.required(decoder, "units", "CPU cores, for example 0.5");
    let milli = units.and_then(|value| value.parse(decoder, EXPECTED, syntax::milli_cpu));
    keys.unsupported(
        decoder,
        "attributes",
        "architecture and CPU model are not matched on; images must be multi-platform",
    );
    keys.finish(decoder);
    milli
}

fn read_memory(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<u64> {
    let parse = |text: &str| {
        let bytes = syntax::bytes(text)?;
        if bytes >= MINIMUM_MEMORY_BYTES {
            return Ok(bytes);
        }
        let refusal = Refusal::expected("at least 6Mi of memory");
        let unitless = text.bytes().all(|byte| byte.is_ascii_digit());
        Err(if unitless {
            refusal.hint(format!("add the unit, for example {text}Gi"))
        } else {
            refusal
        })
    };
    if value.is_scalar() {
        return value.parse(decoder, "a size", parse);
    }
    let mut keys = value.mapping(decoder, "a mapping with `size`")?;
    let size = keys.required(decoder, "size", "for example 512Mi");
    let bytes = size.and_then(|value| value.parse(decoder, "a size", parse));
    keys.finish(decoder);
    bytes
}

/// The root disk's size and the named volumes.
fn read_storage(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<(u64, Vec<Volume>)> {
    let items = if value.is_sequence() {
        value.items(decoder, "a list of storage")?
    } else {
        vec![value.clone()]
    };
    if items.len() > MAXIMUM_VOLUMES {
        let found = format!("{} entries", items.len());
        let expected = format!("at most {MAXIMUM_VOLUMES} entries");
        decoder.problem(value.position(), &value.path, found, expected, None);
        return None;
    }
    let mut root_disk = None;
    let mut volumes: Vec<Volume> = Vec::new();
    let mut names = BTreeSet::new();
    let mut complete = true;
    for item in &items {
        match read_storage_item(decoder, item) {
            None => complete = false,
            Some(StorageItem::RootDisk(bytes)) => {
                if root_disk.replace(bytes).is_some() {
                    let expected = "one storage without a name (the root disk); name the others";
                    decoder.problem(
                        item.position(),
                        &item.path,
                        "a second storage without a name",
                        expected,
                        None,
                    );
                    complete = false;
                }
            }
            Some(StorageItem::Volume(volume)) => {
                if !names.insert(volume.name.clone()) {
                    let found = format!("the name {} again", volume.name);
                    decoder.problem(item.position(), &item.path, found, "each storage name once", None);
                    complete = false;
                }
                volumes.push(volume);
            }
        }
    }
    complete.then_some((root_disk.unwrap_or(0), volumes))
}

enum StorageItem {
    RootDisk(u64),
    Volume(Volume),
}

fn read_storage_item(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<StorageItem> {
    let parse_size = |text: &str| match syntax::bytes(text)? {
        0 => Err(Refusal::expected("a size larger than nothing")),
        bytes => Ok(bytes),
    };
    if value.is_scalar() {
        return value.parse(decoder, "a size", parse_size).map(StorageItem::RootDisk);
    }
    let mut keys = value.mapping(decoder, "a mapping with `size` and, maybe, `name` and `attributes`")?;
    let size = keys.required(decoder, "size", "for example 10Gi");
    let bytes = size.and_then(|value| value.parse(decoder, "a size", parse_size));
    let name = keys.optional("name").map(|value| {
        let name = value.text(decoder, "a name").map(str::to_owned);
        if let Some(name) = &name {
            check_name(decoder, name, value.position(), &value.path, "storage");
        }
        name
    });
    let kind = match keys.optional("attributes") {
        Some(value) => read_volume_kind(decoder, &value),
        None => Some(VolumeKind::Ephemeral),
    };
    let (position, path) = (keys.position(), keys.path().to_owned());
    keys.finish(decoder);
    let (bytes, kind) = (bytes?, kind?);
    match name {
        Some(name) => Some(StorageItem::Volume(Volume {
            name: name?,
            bytes,
            kind,
            mount: None,
        })),
        None if kind == VolumeKind::Ephemeral => Some(StorageItem::RootDisk(bytes)),
        None => {
            let expected = "`name`: `params.storage` mounts it by its name";
            decoder.problem(
                position,
                &path,
                "persistent or memory storage without a name",
                expected,
                None,
            );
            None
        }
    }
}

fn read_volume_kind(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<VolumeKind> {
    const CLASSES: &str = "beta1 (hard disk), beta2 (SSD), beta3 (NVMe) or ram";
    let mut keys = value.mapping(decoder, "a mapping with `persistent` and `class`")?;
    let persistent = keys.optional("persistent");
    let persistent_place = persistent.as_ref().map(|value| (value.position(), value.path.clone()));
    let persistent = persistent.map_or(Some(false), |value| value.boolean(decoder));
    let class = keys.optional("class").map(|value| {
        let kind = value.parse(decoder, CLASSES, |text| match text {
            "ram" => Ok(VolumeKind::Memory),
            "beta1" => Ok(VolumeKind::Beta1),
            "beta2" => Ok(VolumeKind::Beta2),
            "beta3" => Ok(VolumeKind::Beta3),
            _ => Err(Refusal::default()),
        });
        (kind, value)
    });
    let (position, path) = (keys.position(), keys.path().to_owned());
    keys.finish(decoder);
    match (persistent?, class) {
        (false, None) => Some(VolumeKind::Ephemeral),
        (true, None) => {
            let expected = format!("`class` beside `persistent: true`: {CLASSES}");
            decoder.problem(position, &path, "no `class`", expected, None);
            None
        }
        (true, Some((Some(VolumeKind::Memory), _))) => {
            let (position, path) = persistent_place.unwrap_or((position, path));
            let expected = "`persistent: false`: class `ram` is memory and ends with its container";
            decoder.problem(position, &path, "`true` beside class `ram`", expected, None);
            None
        }
        (false, Some((Some(kind), value))) if kind.is_persistent() => {
            value.refuse(decoder, "`persistent: true` beside a class of disk");
            None
        }
        (_, Some((kind, _))) => kind,
    }
}

fn read_gpu(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<Option<Gpu>> {
    let mut keys = value.mapping(decoder, "a mapping with `units` and, maybe, `attributes`")?;
    let units = keys.required(decoder, "units", "how many GPUs, for example 1");
    let units =
        units.and_then(|value| value.parse(decoder, "a number of GPUs", |text| syntax::count(text, 0, MAXIMUM_GPUS)));
    let outer_share = keys.optional("req_vram");
    let accept = match keys.optional("attributes") {
        Some(value) => read_gpu_attributes(decoder, &value),
        None => Some(Vec::new()),
    };
    let share_is_valid = outer_share.is_none_or(|value| read_memory_share(decoder, &value).is_some());
    keys.finish(decoder);
    let (units, accept) = (units?, accept?);
    if !share_is_valid {
        return None;
    }
    if units == 0 {
        if !accept.is_empty() {
            decoder.warn(value, "no GPU is ordered: `units` is 0");
        }
        return Some(None);
    }
    Some(Some(Gpu { units, accept }))
}

fn read_gpu_attributes(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<Vec<GpuKind>> {
    let mut keys = value.mapping(decoder, "a mapping with `vendor`")?;
    let share_is_valid = keys
        .optional("req_vram")
        .is_none_or(|value| read_memory_share(decoder, &value).is_some());
    let vendors = keys.optional("vendor");
    keys.finish(decoder);
    let vendors = match &vendors {
        Some(value) => value.named(
            decoder,
            "a mapping of models by vendor, for example {nvidia: [{model: rtx4090}]}",
        )?,
        None => Vec::new(),
    };
    let mut accept = BTreeSet::new();
    let mut complete = share_is_valid;
    for (vendor, position, models) in &vendors {
        let lower = vendor.to_ascii_lowercase();
        if let Err(refusal) = syntax::identifier(&lower) {
            let expected = refusal.expected.unwrap_or_default();
            decoder.problem(
                *position,
                &models.path,
                format!("the vendor {}", crate::report::quoted(vendor)),
                expected,
                None,
            );
            complete = false;
        } else if models.is_null() {
            accept.insert(GpuKind {
                vendor: lower,
                model: None,
                minimum_memory_bytes: None,
                interface: None,
            });
        } else {
            match read_gpu_models(decoder, &lower, models) {
                Some(kinds) => accept.extend(kinds),
                None => complete = false,
            }
        }
    }
    if accept.len() > MAXIMUM_GPU_KINDS {
        value.refuse(decoder, format!("at most {MAXIMUM_GPU_KINDS} kinds of GPU"));
        return None;
    }
    complete.then(|| accept.into_iter().collect())
}

fn read_gpu_models(decoder: &mut Decoder<'_>, vendor: &str, models: &Value<'_>) -> Option<Vec<GpuKind>> {
    let items = models.items(decoder, "a list of models, for example [{model: rtx4090}]")?;
    if items.is_empty() {
        models.refuse_with_hint(
            decoder,
            "at least one model",
            "leave the list out to accept every model",
        );
        return None;
    }
    let lower = |text: &str| {
        let lower = text.to_ascii_lowercase();
        syntax::identifier(&lower).map(|()| lower)
    };
    let mut kinds = Vec::with_capacity(items.len());
    for item in &items {
        let Some(mut keys) = item.mapping(decoder, "a mapping with `model`") else {
            continue;
        };
        let model = keys
            .optional("model")
            .map(|value| value.parse(decoder, "a model's name", lower));
        let memory = keys
            .optional("ram")
            .map(|value| value.parse(decoder, "a size", syntax::bytes));
        let interface = keys.optional("interface").map(|value| {
            value.parse(decoder, "pcie or sxm", |text| {
                match text.to_ascii_lowercase().as_str() {
                    kind @ ("pcie" | "sxm") => Ok(kind.to_owned()),
                    other if other.starts_with("sxm") => {
                        Err(Refusal::default().hint("write `sxm` for all its variants"))
                    }
                    _ => Err(Refusal::default()),
                }
            })
        });
        keys.finish(decoder);
        if matches!(model, Some(None)) || matches!(memory, Some(None)) || matches!(interface, Some(None)) {
            continue;
        }
        let (model, memory, interface) = (model.flatten(), memory.flatten(), interface.flatten());
        kinds.push(GpuKind {
            vendor: vendor.to_owned(),
            model,
            minimum_memory_bytes: memory,
            interface,
        });
    }
    (kinds.len() == items.len()).then_some(kinds)
}

/// `req_vram` asks for a share of video memory that must be free. A leased GPU is the lease's alone, so a lower bound
/// always holds; an upper bound means nothing here.
fn read_memory_share(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<()> {
    const EXPECTED: &str = "a share of video memory in percent such as \">=80\"";
    let is_lower_bound = value.parse(decoder, EXPECTED, |text| {
        let (bound, number) = text.split_at(text.len() - text.trim_start_matches(['<', '>', '=']).len());
        let percent = syntax::count(number.trim().trim_end_matches('%'), 0, 100).map_err(|_| Refusal::default())?;
        match bound {
            ">=" => Ok(true),
            ">" if percent < 100 => Ok(true),
            "<=" | "<" => Ok(false),
            _ => Err(Refusal::default()),
        }
    })?;
    if !is_lower_bound {
        decoder.warn(
            value,
            "an upper bound of video memory has no effect: a leased GPU is yours alone",
        );
    }
    Some(())
}
