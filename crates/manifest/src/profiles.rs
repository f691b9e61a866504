//! The `profiles` section: how much a service gets, where it may run, what it may cost.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;

use crate::compute::{self, ComputeSection};
use crate::decimal::{Decimal, DecimalError};
use crate::decode::{Decoder, Refusal, Value};
use crate::model::{Mode, Placement};
use crate::report::{Position, quoted};
use crate::services::check_name;
use crate::syntax;

/// `profiles`, each part as far as it could be read.
pub(crate) struct ProfilesSection<'t> {
    pub(crate) name: Option<String>,
    pub(crate) mode: Option<Mode>,
    pub(crate) duration_seconds: Option<u64>,
    pub(crate) tiers: Option<BTreeSet<u8>>,
    pub(crate) compute: Vec<ComputeSection<'t>>,
    /// Names of compute profiles, those with problems too, so that nobody is told that they do not exist.
    pub(crate) compute_names: Vec<&'t str>,
    pub(crate) compute_position: Option<(Position, String)>,
    pub(crate) placements: Vec<PlacementSection<'t>>,
    pub(crate) placement_names: Vec<&'t str>,
}

/// One entry of `profiles.placement`.
pub(crate) struct PlacementSection<'t> {
    pub(crate) name: &'t str,
    pub(crate) placement: Placement,
    pub(crate) pricing: BTreeMap<&'t str, PriceSection>,
    pub(crate) pricing_position: Position,
    pub(crate) pricing_path: String,
}

/// One entry of `pricing`.
#[derive(Clone)]
pub(crate) struct PriceSection {
    pub(crate) token: String,
    pub(crate) amount: Decimal,
    pub(crate) position: Position,
    pub(crate) path: String,
}

pub(crate) fn read<'t>(decoder: &mut Decoder<'_>, section: &Value<'t>) -> Option<ProfilesSection<'t>> {
    let mut keys = section.mapping(decoder, "a mapping with duration, compute and placement")?;
    let name = keys.optional("name");
    let name = name.and_then(|value| {
        value.parse(decoder, "a name", |text| {
            syntax::caption(text).map(|()| text.to_owned())
        })
    });
    let mode = match keys.optional("mode") {
        Some(value) => read_mode(decoder, &value),
        None => {
            decoder.warn_at(keys.position(), keys.path(), "no `mode`: taken as `provider`");
            Some(Mode::Provider)
        }
    };
    let duration = keys.required(decoder, "duration", "how long it runs, for example 2h");
    let duration_seconds = duration.and_then(|value| value.parse(decoder, "a duration", syntax::duration));
    let tiers = match keys.any_of(decoder, &["tier", "tiers"]) {
        Some(value) => read_tiers(decoder, &value),
        None => Some((1..=7).collect()),
    };
    let compute_value = keys.required(decoder, "compute", "a mapping of compute profiles by name");
    let compute_position = compute_value
        .as_ref()
        .map(|value| (value.position(), value.path.clone()));
    let (mut compute, mut compute_names) = (Vec::new(), Vec::new());
    let entries = compute_value.and_then(|value| value.named(decoder, "a mapping of compute profiles by name"));
    for (name, position, value) in entries.unwrap_or_default() {
        check_name(decoder, name, position, "profiles.compute", "compute profile");
        compute_names.push(name);
        compute.extend(compute::read(decoder, name, position, &value));
    }
    let placement_value = keys.required(decoder, "placement", "a mapping of placements by name");
    let (mut placements, mut placement_names) = (Vec::new(), Vec::new());
    let entries = placement_value.and_then(|value| value.named(decoder, "a mapping of placements by name"));
    for (name, position, value) in entries.unwrap_or_default() {
        if let Err(refusal) = syntax::caption(name) {
            let expected = refusal.expected.unwrap_or_default();
            decoder.problem(position, "profiles.placement", quoted(name), expected, None);
        }
        placement_names.push(name);
        placements.extend(read_placement(decoder, name, mode, &value));
    }
    keys.finish(decoder);
    Some(ProfilesSection {
        name,
        mode,
        duration_seconds,
        tiers,
        compute,
        compute_names,
        compute_position,
        placements,
        placement_names,
    })
}

fn read_mode(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<Mode> {
    value.parse(decoder, "provider or fizz", |text| {
        match text.to_ascii_lowercase().as_str() {
            "provider" => Ok(Mode::Provider),
            "fizz" => Ok(Mode::Fizz),
            _ => Err(Refusal::default()),
        }
    })
}

fn read_tiers(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<BTreeSet<u8>> {
    const EXPECTED: &str = "secured, secured-1 to secured-3, community, or community-1 to community-4";
    let items = if value.is_sequence() {
        value.items(decoder, EXPECTED)?
    } else {
        vec![value.clone()]
    };
    if items.is_empty() {
        value.refuse_with_hint(decoder, "at least one tier", "leave `tier` out to accept all");
        return None;
    }
    let mut tiers = BTreeSet::new();
    let mut complete = true;
    for item in &items {
        match item.parse(decoder, EXPECTED, syntax::tiers) {
            Some((group, spelling)) => {
                tiers.extend(group);
                if let Some(spelling) = spelling {
                    decoder.warn(item, format!("taken as `{spelling}`"));
                }
            }
            None => complete = false,
        }
    }
    complete.then_some(tiers)
}

fn read_placement<'t>(
    decoder: &mut Decoder<'_>,
    name: &'t str,
    mode: Option<Mode>,
    value: &Value<'t>,
) -> Option<PlacementSection<'t>> {
    let mut keys = value.mapping(decoder, "a mapping with `pricing` and, maybe, `attributes`")?;
    let mut placement = Placement {
        label: name.to_owned(),
        regions: BTreeSet::new(),
        excluded_regions: BTreeSet::new(),
        providers: BTreeSet::new(),
        excluded_providers: BTreeSet::new(),
        fizz_nodes: BTreeSet::new(),
        excluded_fizz_nodes: BTreeSet::new(),
    };
    let complete = match keys.optional("attributes") {
        Some(value) => read_attributes(decoder, &value, mode, &mut placement).is_some(),
        None => true,
    };
    keys.unsupported(decoder, "signedBy", "there are no auditors here; use `tier`");
    let pricing_value = keys.required(decoder, "pricing", "what each compute profile may cost");
    keys.finish(decoder);
    let pricing_value = pricing_value?;
    let entries = pricing_value.named(decoder, "a mapping of prices by compute profile")?;
    let mut pricing = BTreeMap::new();
    let mut priced = true;
    for (profile, _, value) in &entries {
        match read_price(decoder, value) {
            Some(price) => drop(pricing.insert(*profile, price)),
            None => priced = false,
        }
    }
    (complete && priced).then_some(PlacementSection {
        name,
        placement,
        pricing,
        pricing_position: pricing_value.position(),
        pricing_path: pricing_value.path,
    })
}

fn read_attributes(
    decoder: &mut Decoder<'_>,
    value: &Value<'_>,
    mode: Option<Mode>,
    placement: &mut Placement,
) -> Option<()> {
    let mut keys = value.mapping(decoder, "a mapping of attributes")?;
    let regions = keys.optional("region");
    placement.regions = read_list(decoder, regions.as_ref(), read_region)?;
    let excluded = keys.any_of(decoder, &["region_exclude", "exclude_region"]);
    placement.excluded_regions = read_list(decoder, excluded.as_ref(), read_region)?;
    refuse_overlap(
        decoder,
        excluded.as_ref(),
        &placement.regions,
        &placement.excluded_regions,
    )?;
    let wanted = keys.optional("desired_provider");
    placement.providers = read_list(decoder, wanted.as_ref(), read_address)?;
    let excluded = keys.any_of(decoder, &["provider_exclude", "exclude_provider"]);
    placement.excluded_providers = read_list(decoder, excluded.as_ref(), read_address)?;
    refuse_overlap(
        decoder,
        excluded.as_ref(),
        &placement.providers,
        &placement.excluded_providers,
    )?;
    let wanted = keys.optional("desired_fizz");
    let excluded = keys.any_of(decoder, &["fizz_exclude", "exclude_fizz"]);
    read_fizz_nodes(decoder, mode, wanted, excluded, placement)?;
    keys.unsupported(decoder, "cpu_model", "CPU models are not matched on");
    keys.unsupported(decoder, "bandwidth", "bandwidth is not matched on");
    keys.finish(decoder);
    Some(())
}

fn read_fizz_nodes(
    decoder: &mut Decoder<'_>,
    mode: Option<Mode>,
    wanted: Option<Value<'_>>,
    excluded: Option<Value<'_>>,
    placement: &mut Placement,
) -> Option<()> {
    if mode == Some(Mode::Provider)
        && let Some(value) = wanted.as_ref().or(excluded.as_ref())
    {
        value.refuse_with_hint(
            decoder,
            "no fizz nodes in mode provider",
            "set `mode: fizz`, or leave it out",
        );
        return None;
    }
    placement.fizz_nodes = read_list(decoder, wanted.as_ref(), read_address)?;
    placement.excluded_fizz_nodes = read_list(decoder, excluded.as_ref(), read_address)?;
    refuse_overlap(
        decoder,
        excluded.as_ref(),
        &placement.fizz_nodes,
        &placement.excluded_fizz_nodes,
    )
}

/// The entries of a `;`-separated text.
fn read_list<T: Ord>(
    decoder: &mut Decoder<'_>,
    value: Option<&Value<'_>>,
    entry: impl Fn(&str) -> Result<T, Refusal>,
) -> Option<BTreeSet<T>> {
    let Some(value) = value else {
        return Some(BTreeSet::new());
    };
    value.parse(decoder, "a list separated by `;`", |text| {
        text.split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(&entry)
            .collect()
    })
}

fn read_region(text: &str) -> Result<String, Refusal> {
    let lower = text.to_ascii_lowercase();
    syntax::identifier(&lower).map_err(|_| Refusal::expected("regions such as us-east;eu-west"))?;
    Ok(lower)
}

fn read_address(text: &str) -> Result<Address, Refusal> {
    let refusal = || Refusal::expected("addresses of 0x and 40 hexadecimal digits, separated by `;`");
    let address: Address = text.parse().map_err(|_| refusal())?;
    let digits = text.strip_prefix("0x").ok_or_else(refusal)?;
    let has_case = digits.contains(|digit: char| digit.is_ascii_uppercase())
        && digits.contains(|digit: char| digit.is_ascii_lowercase());
    // Capitals in an address are a checksum: a wrong one means a mistyped digit.
    if has_case && Address::parse_checksummed(text, None).is_err() {
        return Err(Refusal::expected("an address whose capitals are its checksum")
            .hint("one of its digits is mistyped; copy it again"));
    }
    Ok(address)
}

fn refuse_overlap<T: Ord>(
    decoder: &mut Decoder<'_>,
    excluded_value: Option<&Value<'_>>,
    included: &BTreeSet<T>,
    excluded: &BTreeSet<T>,
) -> Option<()> {
    match excluded_value {
        Some(value) if !included.is_disjoint(excluded) => {
            value.refuse(decoder, "nothing that is also asked for");
            None
        }
        _ => Some(()),
    }
}

fn read_price(decoder: &mut Decoder<'_>, value: &Value<'_>) -> Option<PriceSection> {
    let mut keys = value.mapping(decoder, "a mapping with `token` and `amount`")?;
    let token = keys.any_of(decoder, &["token", "denom"]);
    if token.is_none() {
        let expected = "`token`: the payment token's symbol, for example uSPON";
        decoder.problem(keys.position(), keys.path(), "no `token`", expected, None);
    }
    let token = token.and_then(|value| {
        value.parse(decoder, "a token's symbol", |text| {
            syntax::token(text).map(|()| text.to_owned())
        })
    });
    let amount = keys.required(
        decoder,
        "amount",
        "the most it may cost per hour, in whole tokens, for example 0.5",
    );
    let amount = amount.and_then(|value| value.parse(decoder, "an amount", read_amount));
    keys.finish(decoder);
    Some(PriceSection {
        token: token?,
        amount: amount?,
        position: value.position(),
        path: value.path.clone(),
    })
}

fn read_amount(text: &str) -> Result<Decimal, Refusal> {
    text.parse().map_err(|error: DecimalError| {
        let refusal = Refusal::expected("whole tokens per hour as a decimal number such as 1 or 0.25");
        match error {
            DecimalError::Syntax if text.contains(['e', 'E']) => refusal.hint("write all its digits, without exponent"),
            DecimalError::Syntax if text.contains(',') => refusal.hint("write a point, not a comma"),
            DecimalError::Syntax => refusal,
            DecimalError::TooFine | DecimalError::TooLarge => refusal.hint(error.to_string()),
        }
    })
}
