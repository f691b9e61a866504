//! From a manifest to order terms: exact numbers, and what a provider says about a manifest that asks for more.

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use avs::words::{GpuSet, Mode, Requirements, Resources, TierSet};
use manifest::{
    Catalog, Decimal, GpuModel, ManifestError, OrderError, OrderRequest, Quote, SaltedManifest, Token, canonical_json,
    content_hash, derive, differences, named_suppliers, parse, region_names,
};

const PARAMS_VERSION: u16 = 7;
const PROVIDER: Address = Address::repeat_byte(0xaa);
const OTHER: Address = Address::repeat_byte(0xbb);

fn catalog() -> Catalog {
    let gpu = |vendor: &str, model: &str, gibibytes: u64, interface: Option<&str>| GpuModel {
        vendor: vendor.to_owned(),
        model: model.to_owned(),
        memory_bytes: gibibytes << 30,
        interface: interface.map(str::to_owned),
    };
    let token = |symbol: &str, id, decimals| (symbol.to_owned(), Token { id, decimals });
    Catalog {
        tokens: [token("SPON", 1, 18), token("uSPON", 2, 6)].into(),
        gpus: [
            (1, gpu("nvidia", "rtx4090", 24, None)),
            (2, gpu("nvidia", "a100", 40, Some("pcie"))),
            (3, gpu("nvidia", "a100", 80, Some("sxm"))),
            (150, gpu("amd", "mi300x", 192, None)),
        ]
        .into(),
        regions: [
            ("us-east".to_owned(), 1),
            ("eu-west".to_owned(), 2),
            ("ap-south".to_owned(), 255),
        ]
        .into(),
        suppliers: [(PROVIDER, 11), (OTHER, 5)].into(),
    }
}

struct File {
    resources: &'static str,
    attributes: String,
    profiles: &'static str,
    price: &'static str,
    count: u32,
}

impl Default for File {
    fn default() -> Self {
        Self {
            resources: "{cpu: 1, memory: 1Gi, storage: 1Gi}",
            attributes: String::new(),
            profiles: "mode: provider",
            price: "{token: uSPON, amount: 1}",
            count: 1,
        }
    }
}

impl File {
    fn salted(&self) -> SaltedManifest {
        let text = format!(
            "version: \"1.0\"\nservices: {{app: {{image: 'app:1', env: [PASSWORD=test]}}}}\nprofiles:\n  duration: 2h\n  {}\n  compute: {{app: {}}}\n  placement: {{any: {{attributes: {{{}}}, pricing: {{app: {}}}}}}}\ndeployment: {{app: {{any: {{profile: app, count: {}}}}}}}\n",
            self.profiles, self.resources, self.attributes, self.price, self.count
        );
        let deployment = parse("app.yaml", text.as_bytes()).unwrap_or_else(|report| panic!("{report}\n{text}"));
        SaltedManifest {
            salt: B256::repeat_byte(0x5a),
            manifest: deployment.manifest,
        }
    }

    fn order(&self) -> Result<OrderRequest, OrderError> {
        derive(&self.salted(), &catalog(), PARAMS_VERSION)
    }
}

#[test]
fn terms_of_a_plain_order() {
    let file = File::default();
    let order = file.order().expect("an order");
    let (resources, requirements) = order.terms.unpack().expect("valid words");
    let expected = Resources {
        cpu: 100,
        memory: 64,
        storage: 4,
        gpu_count: 0,
        gpus: GpuSet::default(),
    };
    assert_eq!(resources, expected);
    let expected = Requirements {
        mode: Mode::Provider,
        tiers: TierSet::ANY,
        params_version: PARAMS_VERSION,
        ..Default::default()
    };
    assert_eq!(requirements, expected);
    assert_eq!(
        (order.token, order.terms.maximum_rate, order.terms.duration),
        (2, 10_000_000, 7_200)
    );
    assert_eq!(
        (order.terms.regions, order.terms.manifest_hash),
        (U256::MAX, file.salted().hash())
    );
    assert!(order.terms.wanted_suppliers.is_empty() && order.terms.excluded_suppliers.is_empty());
}

#[test]
fn resources_are_summed_exactly_and_rounded_up_once() {
    let check = |resources: &'static str, count, expected: (u32, u32, u32)| {
        let order = File {
            resources,
            count,
            ..Default::default()
        }
        .order()
        .expect("an order");
        let (resources, _) = order.terms.unpack().expect("valid words");
        assert_eq!(
            (resources.cpu, resources.memory, resources.storage),
            expected,
            "{count} of {resources:?}"
        );
    };
    check("{cpu: 5m, memory: 8Mi, storage: 64Mi}", 1, (1, 1, 1));
    check("{cpu: 5m, memory: 8Mi, storage: 64Mi}", 2, (1, 1, 1));
    check("{cpu: 5m, memory: 8Mi, storage: 64Mi}", 5, (3, 3, 2));
    check("{cpu: 1, memory: 1G, storage: 1G}", 1, (100, 60, 4));
    let with_shm = "{cpu: 1, memory: 16Mi, storage: [{size: 1Gi}, {name: shm, size: 16Mi, attributes: {class: ram}}]}";
    check(with_shm, 1, (100, 2, 4));
}

#[test]
fn rates_round_down() {
    let check = |price: &'static str, count, expected: u128| {
        let order = File {
            price,
            count,
            ..Default::default()
        }
        .order()
        .expect("an order");
        assert_eq!(order.terms.maximum_rate, expected, "{count} of {price}");
    };
    check("{token: uSPON, amount: 0.0001}", 1, 1_000);
    check("{token: uSPON, amount: 0.0000001}", 1, 1);
    check("{token: uSPON, amount: 0.00000019}", 1, 1);
    check("{token: uSPON, amount: 0.00000005}", 3, 1);
    check("{token: uSPON, amount: 1.5}", 1_000, 15_000_000_000);
    check("{token: SPON, amount: 1000000}", 1, 10_000_000_000_000_000_000_000_000);
}

#[test]
fn prices_that_the_chain_cannot_count_are_refused() {
    let check = |price: &'static str, expected: &str| {
        let error = File {
            price,
            ..Default::default()
        }
        .order()
        .expect_err("refused");
        assert_eq!(error.to_string(), expected);
    };
    check(
        "{token: uSPON, amount: 0.00000009}",
        "the price of 0.00000009 uSPON an hour is less than one unit of the token in ten hours; raise `amount`",
    );
    check(
        "{token: SPON, amount: 2000000}",
        "the price in SPON is too large for the market; lower `amount`",
    );
    check(
        "{token: CST, amount: 1}",
        "the token CST is not listed on this network; listed are: SPON, uSPON",
    );
}

#[test]
fn quotes_are_the_escrow_contracts_sums() {
    let check = |rate, duration, user_fee, match_fee, expected: (u128, u128, u128)| {
        let quote = Quote::new(rate, duration, user_fee, match_fee);
        assert_eq!((quote.stream, quote.user_fee, quote.lock()), expected);
    };
    check(10_000_000, 7_200, 200, 0, (2_000_000, 40_000, 2_040_000));
    check(1, 1, 0, 0, (1, 0, 1));
    check(1, 36_001, 200, 5, (2, 1, 8));
    let (rate, duration) = ((1 << 84) - 1, (1 << 29) - 1);
    assert!(
        Quote::new(rate, duration, 2_500, 1 << 95).lock() > 0,
        "the largest of everything fits"
    );
}

#[test]
fn gpus_become_the_ids_that_fit() {
    let ids = |gpu: &str| -> Result<Vec<u8>, OrderError> {
        let resources = format!("{{cpu: 1, memory: 1Gi, storage: 1Gi, gpu: {gpu}}}");
        let order = File {
            resources: resources.leak(),
            count: 2,
            ..Default::default()
        }
        .order()?;
        let (resources, _) = order.terms.unpack().expect("valid words");
        assert_eq!(resources.gpu_count, 4, "two containers of two");
        Ok(resources.gpus.iter().collect())
    };
    assert_eq!(ids("{units: 2}").expect("any").len(), 159);
    assert_eq!(ids("{units: 2, attributes: {vendor: {nvidia: }}}"), Ok(vec![1, 2, 3]));
    assert_eq!(
        ids("{units: 2, attributes: {vendor: {nvidia: [{model: A100}]}}}"),
        Ok(vec![2, 3])
    );
    assert_eq!(
        ids("{units: 2, attributes: {vendor: {nvidia: [{model: a100, ram: 80Gi}]}}}"),
        Ok(vec![3])
    );
    assert_eq!(
        ids("{units: 2, attributes: {vendor: {nvidia: [{model: a100, interface: pcie}]}}}"),
        Ok(vec![2])
    );
    assert_eq!(
        ids("{units: 2, attributes: {vendor: {nvidia: [{model: rtx4090}], amd: }}}"),
        Ok(vec![1, 150])
    );
    assert_eq!(
        ids("{units: 2, attributes: {vendor: {nvidia: [{ram: 48Gi}]}}}"),
        Ok(vec![3])
    );
    let error = ids("{units: 2, attributes: {vendor: {nvidia: [{model: h200, ram: 1Gi}]}}}").expect_err("not listed");
    let expected = "no GPU listed on this network is nvidia h200 with at least 1073741824 bytes of memory; listed are: \
                    rtx4090, a100, a100, mi300x";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn regions_become_bitmaps() {
    let bits = |attributes: &str| {
        let file = File {
            attributes: attributes.to_owned(),
            ..Default::default()
        };
        file.order().map(|order| order.terms.regions)
    };
    let bit = |id: usize| U256::from(1) << id;
    assert_eq!(bits("region: us-east;ap-south"), Ok(bit(1) | bit(255)));
    assert_eq!(bits("region_exclude: eu-west"), Ok(!(bit(2) | bit(0))));
    assert_eq!(bits("region: eu-west, exclude_region: us-east"), Ok(bit(2)));
    let error = bits("region: mars").expect_err("not listed");
    assert_eq!(
        error.to_string(),
        "the region mars is not listed on this network; listed are: ap-south, eu-west, us-east"
    );
}

#[test]
fn suppliers_become_ascending_ids() {
    let suppliers = |profiles, attributes: String| {
        let file = File {
            profiles,
            attributes,
            ..Default::default()
        };
        assert!(named_suppliers(&file.salted().manifest).count() > 0);
        file.order()
            .map(|order| (order.terms.wanted_suppliers, order.terms.excluded_suppliers))
    };
    let provider = "mode: provider";
    let fizz = "mode: fizz";
    assert_eq!(
        suppliers(provider, format!("desired_provider: '{PROVIDER};{OTHER}'")),
        Ok((vec![5, 11], vec![]))
    );
    assert_eq!(
        suppliers(provider, format!("provider_exclude: '{PROVIDER}'")),
        Ok((vec![], vec![11]))
    );
    assert_eq!(
        suppliers(fizz, format!("desired_fizz: '{OTHER}', exclude_provider: '{PROVIDER}'")),
        Ok((vec![5], vec![11]))
    );
    assert_eq!(
        suppliers(fizz, format!("desired_provider: '{OTHER}'")),
        Err(OrderError::GatewayNotSelectable)
    );
    let unknown = Address::repeat_byte(0xcc);
    let error = suppliers(provider, format!("desired_provider: '{unknown}'"));
    assert_eq!(error, Err(OrderError::UnknownSupplier { address: unknown }));
}

#[test]
fn a_provider_names_every_field_that_differs() {
    let ordered = File::default().order().expect("an order");
    assert_eq!(differences(&ordered, &ordered), []);
    let greedy = File {
        resources: "{cpu: 8, memory: 1Gi, storage: 10Gi, gpu: {units: 1}}",
        profiles: "mode: provider\n  tier: [secured]",
        price: "{token: SPON, amount: 1}",
        attributes: format!("region: us-east, desired_provider: '{PROVIDER}'"),
        count: 1,
    };
    let derived = greedy.order().expect("an order");
    let fields: Vec<_> = differences(&derived, &ordered)
        .iter()
        .map(ToString::to_string)
        .collect();
    let hash = |order: &OrderRequest| order.terms.manifest_hash;
    let says = |field: &str, derived: &str, on_chain: &str| {
        format!("{field}: the manifest asks for {derived}, the order is for {on_chain}")
    };
    let expected = [
        says("token", "1", "2"),
        says("cpu", "8000 milli-CPU", "1000 milli-CPU"),
        says("storage", "10737418240 bytes", "1073741824 bytes"),
        says("GPUs", "1", "0"),
        says("acceptable GPU ids", "any", "none"),
        says("tiers", "1, 2, 3", "1, 2, 3, 4, 5, 6, 7"),
        says("regions", "0x2", &format!("{:#x}", U256::MAX)),
        says(
            "manifest hash",
            &hash(&derived).to_string(),
            &hash(&ordered).to_string(),
        ),
        says("maximum rate", "10000000000000000000", "10000000"),
        says("wanted suppliers", "11", "any"),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn regions_are_told_by_their_names() {
    let names = [(1, "us-east".to_owned()), (2, "eu-west".to_owned())].into();
    assert_eq!(region_names(U256::MAX, &names), "any");
    assert_eq!(region_names(U256::from(0b1010), &names), "us-east, 3");
    assert_eq!(region_names(U256::MAX ^ U256::from(0b100), &names), "any but eu-west");
    assert_eq!(region_names(U256::ZERO, &names), "none");
    // As a file says it: who has no region might be in an excluded one.
    let without = File {
        attributes: "exclude_region: eu-west".to_owned(),
        ..File::default()
    };
    let regions = without.order().expect("an order").terms.regions;
    assert_eq!(region_names(regions, &names), "any but eu-west");
}

#[test]
fn the_hash_is_over_version_salt_and_canonical_json() {
    let salted = File::default().salted();
    let json = canonical_json(&salted.manifest);
    let expected = concat!(
        r#"{"requirements":{"duration_seconds":7200,"mode":"provider","placement":{"label":"any"},"#,
        r#""tiers":[1,2,3,4,5,6,7],"token":"uSPON"},"services":{"app":{"count":1,"#,
        r#""env":[{"name":"PASSWORD","value":"test"}],"hourly_price":"1","image":"app:1","profile":"app","#,
        r#""pull_policy":"IfNotPresent","resources":{"memory_bytes":1073741824,"milli_cpu":1000,"#,
        r#""root_disk_bytes":1073741824}}}}"#
    );
    assert_eq!(String::from_utf8_lossy(&json), expected);
    let mut hashed = vec![1];
    hashed.extend([0x5a; 32]);
    hashed.extend(&json);
    assert_eq!(salted.hash(), keccak256(hashed));
    assert_eq!(content_hash(&salted.manifest), keccak256([&[1][..], &json].concat()));
    // Fixed for ever: a change would orphan every manifest whose hash is on chain.
    assert_eq!(
        salted.hash(),
        B256::from(hex!("1c1a3d25c8192687ad568def58b03b606d1cd72287f8e7e5686f407172411ed0"))
    );
}

#[test]
fn a_manifest_arrives_as_it_was_sent() {
    let salted = File::default().salted();
    assert_eq!(SaltedManifest::decode(&salted.encode()).expect("decoded"), salted);
    let json = canonical_json(&salted.manifest);
    assert_eq!(SaltedManifest::from_parts(salted.salt, &json).expect("read"), salted);
    let spaced = serde_json::to_vec_pretty(&salted.manifest).expect("JSON");
    assert!(matches!(
        SaltedManifest::from_parts(salted.salt, &spaced),
        Err(ManifestError::NotCanonical)
    ));
}

#[test]
fn manifests_that_no_file_produces_are_refused() {
    let check = |change: &dyn Fn(&mut manifest::Manifest), expected: &str| {
        let mut salted = File::default().salted();
        change(&mut salted.manifest);
        let error = SaltedManifest::decode(&salted.encode()).expect_err(expected);
        let ManifestError::Invalid(invalid) = error else {
            panic!("{error}")
        };
        assert_eq!(invalid.to_string(), expected);
    };
    let app = |manifest: &mut manifest::Manifest| manifest.services.remove("app").expect("app");
    check(&|manifest| drop(app(manifest)), "services: expected 1 to 64 services");
    check(
        &|manifest| manifest.requirements.duration_seconds = 0,
        "requirements.duration_seconds: expected 1 to 536870911 seconds",
    );
    check(
        &|manifest| manifest.requirements.tiers.clear(),
        "requirements.tiers: expected tiers from 1 to 7",
    );
    let service = |change: fn(&mut manifest::Service)| {
        move |manifest: &mut manifest::Manifest| change(manifest.services.get_mut("app").expect("app"))
    };
    check(
        &service(|app| app.count = 0),
        "services.app.count: expected 1 to 1000 containers",
    );
    check(
        &service(|app| app.resources.memory_bytes = 1),
        "services.app.resources: expected at least 6 MiB of memory",
    );
    check(
        &service(|app| app.resources.milli_cpu = u64::MAX),
        "services: expected at most 10485750 thousandths of CPU in all services together",
    );
    check(
        &service(|app| app.hourly_price = Decimal::ZERO),
        "services: expected a price above 0",
    );
    check(
        &service(|app| app.image = "--privileged".to_owned()),
        "services.app.image: expected an image such as nginx:1.27 or ghcr.io/org/app@sha256:...",
    );
    check(
        &|manifest| {
            let moved = app(manifest);
            manifest.services.insert("../etc".to_owned(), moved);
        },
        "services.../etc: expected a name of at most 63 lower-case letters, digits and `-`, with a letter or digit at both ends",
    );
}

#[test]
fn bytes_that_are_no_manifest_are_refused_without_repeating_them() {
    let salted = File::default().salted();
    let text = String::from_utf8(salted.encode()).expect("UTF-8");
    let cases = [
        text.replace("\"count\":1", "\"count\":\"hunter2\""),
        text.replace("\"count\":1", "\"count\":1.0"),
        text.replace("\"count\":1", "\"count\":1,\"hunter2\":1"),
        text.replace("\"version\":1", "\"version\":2"),
        text[..text.len() - 1].to_owned(),
        "hunter2".to_owned(),
        "[".repeat(100_000),
        " ".repeat(manifest::MAXIMUM_ENCODED_BYTES + 1),
    ];
    for case in cases {
        assert_ne!(case, text);
        let error = SaltedManifest::decode(case.as_bytes()).expect_err("refused");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
