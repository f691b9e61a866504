//! What a person sees when a deployment file is wrong: place, found, expected, hint.

use manifest::{Problem, parse};

/// A file without a fault; the cases below break one thing each.
const GOOD: &str = r#"version: "1.0"
services:
  web:
    image: nginx:1.27
    env:
      - MODE=test
    expose:
      - port: 80
        as: 80
        to:
          - global: true
  db:
    image: ghcr.io/org/db:2
    credentials:
      registry: ghcr.io
      username: user
      password: hunter2
    expose:
      - port: 5432
        to:
          - service: web
    params:
      storage:
        data:
          mount: /data
profiles:
  name: shop
  mode: provider
  duration: 2h
  tier: [secured, community-1]
  compute:
    web:
      resources:
        cpu:
          units: 0.5
        memory:
          size: 512Mi
        storage:
          size: 1Gi
    db:
      resources:
        cpu:
          units: 100m
        memory:
          size: 1Gi
        storage:
          - size: 1Gi
          - name: data
            size: 10Gi
            attributes:
              persistent: true
              class: beta3
        gpu:
          units: 1
          attributes:
            vendor:
              nvidia:
                - model: rtx4090
  placement:
    anywhere:
      attributes:
        region: us-east;eu-west
      pricing:
        web:
          token: uSPON
          amount: 0.25
        db:
          token: uSPON
          amount: 1
deployment:
  web:
    anywhere:
      profile: web
      count: 2
  db:
    anywhere:
      profile: db
      count: 1
"#;

fn problems_of(text: &str) -> Vec<Problem> {
    parse("app.yaml", text.as_bytes())
        .expect_err("the file is accepted")
        .problems
}

/// Replaces the only occurrence of `old` and compares the first problem with `place: path: found ..., expected ...`.
fn check(old: &str, new: &str, expected: &str) {
    assert_eq!(GOOD.matches(old).count(), 1, "{old:?} must stand once in the file");
    check_text(&GOOD.replace(old, new), expected);
}

fn check_text(text: &str, expected: &str) {
    let problems = problems_of(text);
    let problem = &problems[0];
    let shown = format!(
        "{}: {}: found {}, expected {}",
        problem.position, problem.path, problem.found, problem.expected
    );
    assert_eq!(shown, expected, "\nall: {problems:#?}");
}

fn check_hint(old: &str, new: &str, hint: &str) {
    assert_eq!(GOOD.matches(old).count(), 1, "{old:?} must stand once in the file");
    let problems = problems_of(&GOOD.replace(old, new));
    assert_eq!(problems[0].hint.as_deref(), Some(hint), "{problems:#?}");
}

#[test]
fn the_file_itself_passes() {
    let deployment = parse("app.yaml", GOOD.as_bytes()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(deployment.warnings, []);
}

#[test]
fn a_report_shows_place_line_caret_and_hint() {
    let report = parse(
        "app.yaml",
        GOOD.replace("    image: nginx:1.27", "    imgae: nginx:1.27")
            .as_bytes(),
    );
    let text = report.expect_err("an unknown key").to_string();
    let expected = "\
app.yaml:4:5: services.web: found no `image`, expected `image`: the container image, for example nginx:1.27
  |
4 |     imgae: nginx:1.27
  |     ^
app.yaml:4:5: services.web: found the unknown key `imgae`, expected one of image, pull_policy, credentials, command, \
args, env, expose, params, dependencies, depends-on
  |
4 |     imgae: nginx:1.27
  |     ^
  hint: did you mean `image`?";
    assert_eq!(text, expected);
}

#[test]
fn a_report_for_programs_has_the_same_fields() {
    let report = parse("app.yaml", GOOD.replace("duration: 2h", "duration: 2m").as_bytes()).expect_err("a bad unit");
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({
            "file": "app.yaml",
            "problems": [{
                "line": 29,
                "column": 13,
                "path": "profiles.duration",
                "found": "`2m`",
                "expected": "a duration such as 90s, 30min, 2h, 7d, 1mon (30 days) or 1y (365 days)",
                "hint": "`m` could be minutes or months: write `min` or `mon`",
                "source_line": "  duration: 2m",
            }],
        })
    );
}

#[test]
fn every_problem_of_a_file_is_in_one_report() {
    let text = GOOD
        .replace("duration: 2h", "duration: 2m")
        .replace("units: 0.5", "units: half")
        .replace("amount: 0.25", "amount: 1e3")
        .replace("      count: 2", "      count: 0");
    let places: Vec<_> = problems_of(&text)
        .iter()
        .map(|problem| (problem.position.line, problem.path.clone()))
        .collect();
    let expected = [
        (29, "profiles.duration".to_owned()),
        (35, "profiles.compute.web.resources.cpu.units".to_owned()),
        (66, "profiles.placement.anywhere.pricing.web.amount".to_owned()),
        (74, "deployment.web.anywhere.count".to_owned()),
    ];
    assert_eq!(places, expected);
}

#[test]
fn unknown_keys() {
    check(
        "version: \"1.0\"\n",
        "version: \"1.0\"\nvolumes: {}\n",
        "2:1: : found the unknown key `volumes`, expected one of version, services, profiles, deployment, endpoints, include",
    );
    check(
        "        as: 80\n",
        "        ass: 80\n",
        "9:9: services.web.expose[0]: found the unknown key `ass`, expected one of port, as, port_range, port_range_as, proto, accept, use_public_port, http_options, to",
    );
    check_hint(
        "        as: 80\n",
        "        portRange: 80-81\n",
        "did you mean `port_range`?",
    );
    check(
        "        region: us-east;eu-west\n",
        "        regions: us-east\n",
        "62:9: profiles.placement.anywhere.attributes: found the unknown key `regions`, expected one of region, region_exclude, exclude_region, desired_provider, provider_exclude, exclude_provider, desired_fizz, fizz_exclude, exclude_fizz, cpu_model, bandwidth",
    );
}

#[test]
fn bad_units() {
    let duration = "a duration such as 90s, 30min, 2h, 7d, 1mon (30 days) or 1y (365 days)";
    check(
        "duration: 2h",
        "duration: 2 h",
        &format!("29:13: profiles.duration: found `2 h`, expected {duration}"),
    );
    check(
        "duration: 2h",
        "duration: 2",
        &format!("29:13: profiles.duration: found `2`, expected {duration}"),
    );
    check_hint("duration: 2h", "duration: 2", "add the unit, for example 2h");
    check_hint("duration: 2h", "duration: 1hr", "write `h` for hours");
    check(
        "duration: 2h",
        "duration: 0h",
        "29:13: profiles.duration: found `0h`, expected a duration longer than nothing",
    );
    let size = "a size such as 512Mi, 1.5Gi or 2G (k, M, G, T, P, E count in thousands; with i in 1024s)";
    let path = "profiles.compute.web.resources.memory.size";
    check(
        "size: 512Mi",
        "size: 512MB",
        &format!("37:17: {path}: found `512MB`, expected {size}"),
    );
    check_hint("size: 512Mi", "size: 512MB", "write `Mi` or `M`");
    check_hint("size: 512Mi", "size: 512mi", "write `Mi`");
    check(
        "size: 512Mi",
        "size: 512",
        &format!("37:17: {path}: found `512`, expected at least 6Mi of memory"),
    );
    check_hint("size: 512Mi", "size: 512", "add the unit, for example 512Gi");
    let cpu = "CPU cores such as 2 or 0.5, or thousandths such as 500m";
    let path = "profiles.compute.web.resources.cpu.units";
    check(
        "units: 0.5",
        "units: 5e-1",
        &format!("35:18: {path}: found `5e-1`, expected {cpu}"),
    );
    check(
        "units: 0.5",
        "units: 0",
        &format!("35:18: {path}: found `0`, expected more than no CPU"),
    );
    check(
        "units: 0.5",
        "units: 0.00051",
        &format!(
            "35:18: {path}: found `0.00051`, expected CPU cores in thousandths at the finest, such as 0.125 or 125m"
        ),
    );
}

#[test]
fn overflow() {
    let longest = "at most 536870911 seconds (about 17 years)";
    check(
        "duration: 2h",
        "duration: 18y",
        &format!("29:13: profiles.duration: found `18y`, expected {longest}"),
    );
    let huge = "99999999999999999999999999";
    check(
        "duration: 2h",
        &format!("duration: {huge}y"),
        &format!("29:13: profiles.duration: found `{huge}y`, expected {longest}"),
    );
    check(
        "size: 512Mi",
        "size: 16Ei",
        "37:17: profiles.compute.web.resources.memory.size: found `16Ei`, expected a size below 16Ei",
    );
    check(
        "units: 0.5",
        "units: 6000",
        "32:5: profiles.compute: found 12000100 thousandths of CPU in all, expected at most 10485750 thousandths of CPU in all services together",
    );
    check(
        "        size: 512Mi",
        "        size: 12Ei",
        "32:5: profiles.compute: found 27670116111638069248 bytes of memory in all, expected at most 17592169267200 bytes of memory in all services together",
    );
    check(
        "units: 0.5",
        &format!("units: {huge}{huge}"),
        &format!(
            "35:18: profiles.compute.web.resources.cpu.units: found `{huge}{huge}`, expected CPU cores such as 2 or 0.5, or thousandths such as 500m"
        ),
    );
    check(
        "        as: 80",
        "        as: 65536",
        "9:13: services.web.expose[0].as: found `65536`, expected a port from 1 to 65535",
    );
    check(
        "      count: 2",
        "      count: 4294967297",
        "74:14: deployment.web.anywhere.count: found `4294967297`, expected a whole number from 1 to 1000",
    );
    check(
        "amount: 0.25",
        "amount: 1000000000000000000000000000000000000000",
        "66:19: profiles.placement.anywhere.pricing.web.amount: found `1000000000000000000000000000000000000000`, expected whole tokens per hour as a decimal number such as 1 or 0.25",
    );
}

#[test]
fn missing_parts() {
    check(
        "      profile: web",
        "      profile: wep",
        "73:16: deployment.web.anywhere.profile: found `wep`, expected a profile of profiles.compute: web, db",
    );
    check_hint("      profile: web", "      profile: wep", "did you mean `web`?");
    check(
        "  placement:\n    anywhere:",
        "  placement:\n    somewhere:",
        "72:5: deployment.web: found `anywhere`, expected a placement of profiles.placement: somewhere",
    );
    check(
        "        web:\n          token",
        "        www:\n          token",
        "64:9: profiles.placement.anywhere.pricing: found no price for the profile `web`, expected `web: {token: ..., amount: ...}`",
    );
    check(
        "deployment:\n  web:",
        "deployment:\n  wed:",
        "71:3: deployment.wed: found `wed`, expected a service of this file: web, db",
    );
    check(
        "          - service: web",
        "          - service: wen",
        "21:22: services.db.expose[0].to[0].service: found `wen`, expected a service of this file: web, db",
    );
    check(
        "        data:\n",
        "        date:\n",
        "24:9: services.db.params.storage.date: found `date`, expected a named storage of the profile `db`: data",
    );
    check(
        "  duration: 2h\n",
        "",
        "27:3: profiles: found no `duration`, expected `duration`: how long it runs, for example 2h",
    );
    check(
        "      count: 2",
        "      count:",
        "74:7: deployment.web.anywhere: found nothing under `count`, expected `count`: how many containers, for example 1",
    );
    check(
        "              class: beta3\n",
        "",
        "51:15: profiles.compute.db.resources.storage[1].attributes: found no `class`, expected `class` beside `persistent: true`: beta1 (hard disk), beta2 (SSD), beta3 (NVMe) or ram",
    );
    check_text(
        "",
        "1:1: : found an empty file, expected a deployment file with `version: \"1.0\"`",
    );
    check_text(
        "# nothing\n",
        "2:1: : found an empty file, expected a deployment file with `version: \"1.0\"`",
    );
    check_text(
        "hello",
        "1:1: : found `hello`, expected a mapping with version, services, profiles and deployment",
    );
    check(
        "version: \"1.0\"",
        "version: \"2.0\"",
        "1:10: version: found `2.0`, expected \"1.0\"",
    );
}

#[test]
fn things_that_stand_twice() {
    check(
        "  db:\n    image",
        "  web:\n    image",
        "12:3: : found a second `web`, expected each key once (the first is in line 3)",
    );
    check(
        "      - MODE=test\n",
        "      - MODE=test\n      - MODE=live\n",
        "7:9: services.web.env[1]: found MODE again, expected each variable once",
    );
    let second_port = "        as: 80\n        to:\n          - global: true\n      - port: 80\n";
    check(
        "        as: 80\n",
        second_port,
        "12:9: services.web.expose[1]: found port 80/tcp again, expected each port and protocol once",
    );
    check(
        "      registry: ghcr.io\n",
        "      registry: ghcr.io\n      host: ghcr.io\n",
        "16:13: services.db.credentials: found `host` beside `registry`, expected only one of them: they mean the same (`registry` is preferred)",
    );
    check(
        "  tier: [secured, community-1]\n",
        "  tier: [secured]\n  tiers: [community]\n",
        "31:10: profiles: found `tiers` beside `tier`, expected only one of them: they mean the same (`tier` is preferred)",
    );
    check(
        "          - size: 1Gi\n",
        "          - size: 1Gi\n          - size: 2Gi\n",
        "48:13: profiles.compute.db.resources.storage[1]: found a second storage without a name, expected one storage without a name (the root disk); name the others",
    );
}

#[test]
fn what_one_order_cannot_be() {
    let two = "    anywhere:\n      profile: db\n      count: 1\n";
    check(
        two,
        "    elsewhere:\n      profile: db\n      count: 1\n",
        "76:5: deployment.db: found `elsewhere`, expected the placement `anywhere`: one file is one order at one provider",
    );
    check(
        "          token: uSPON\n          amount: 1\n",
        "          token: USDT\n          amount: 1\n",
        "68:11: profiles.placement.anywhere.pricing.db: found `USDT`, expected `uSPON`, as elsewhere: one order is paid in one token",
    );
    let web_gpu =
        "          size: 1Gi\n        gpu: {units: 1, attributes: {vendor: {nvidia: [{model: a100}]}}}\n    db:\n";
    check(
        "          size: 1Gi\n    db:\n",
        web_gpu,
        "55:11: profiles.compute.db.resources.gpu: found other GPUs for `db` than for `web`, expected the same kinds of GPU for every service: an order has one GPU requirement",
    );
    let free = GOOD
        .replace("amount: 0.25", "amount: 0")
        .replace("amount: 1\n", "amount: 0.00\n");
    check_text(
        &free,
        "64:9: profiles.placement.anywhere.pricing: found a price of 0, expected at least one amount above 0",
    );
    check(
        "        region: us-east;eu-west\n",
        "        desired_fizz: \"0x00000000000000000000000000000000000000aa\"\n",
        "62:23: profiles.placement.anywhere.attributes.desired_fizz: found `0x00000000000000000000000000000000000000aa`, expected no fizz nodes in mode provider",
    );
    check(
        "        region: us-east;eu-west\n",
        "        region: us-east\n        exclude_region: us-east;us-west\n",
        "63:25: profiles.placement.anywhere.attributes.exclude_region: found `us-east;us-west`, expected nothing that is also asked for",
    );
}

#[test]
fn names_and_references() {
    check(
        "image: nginx:1.27",
        "image: Nginx:1.27",
        "4:12: services.web.image: found `Nginx:1.27`, expected an image such as nginx:1.27 or ghcr.io/org/app@sha256:...",
    );
    check_hint(
        "image: nginx:1.27",
        "image: Nginx:1.27",
        "the name of an image is lower-case; only its tag may have capitals",
    );
    check(
        "  tier: [secured, community-1]\n",
        "  tier: [gold]\n",
        "30:10: profiles.tier[0]: found `gold`, expected secured, secured-1 to secured-3, community, or community-1 to community-4",
    );
    check(
        "          mount: /data\n",
        "          mount: ../etc\n",
        "25:18: services.db.params.storage.data.mount: found `../etc`, expected an absolute path such as /data, without `..` and `:`",
    );
    check(
        "        region: us-east;eu-west\n",
        "        desired_provider: \"0x1234...5678\"\n",
        "62:27: profiles.placement.anywhere.attributes.desired_provider: found `0x1234...5678`, expected addresses of 0x and 40 hexadecimal digits, separated by `;`",
    );
    let mistyped = "        desired_provider: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAee\"\n";
    check(
        "        region: us-east;eu-west\n",
        mistyped,
        "62:27: profiles.placement.anywhere.attributes.desired_provider: found `0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAee`, expected an address whose capitals are its checksum",
    );
    check_hint(
        "      registry: ghcr.io\n",
        "      registry: https://ghcr.io\n",
        "leave out the scheme (https://)",
    );
    check_hint("  web:\n    image", "  Web_1:\n    image", "write `web-1`");
    check(
        "    env:\n      - MODE=test\n",
        "    command: sh -c true\n",
        "5:14: services.web.command: found `sh -c true`, expected a list of texts such as [sh, -c, \"...\"]",
    );
}

#[test]
fn broken_yaml_has_its_place() {
    check_text(
        "services:\n\t- a\n",
        "2:2: : found text that is not valid YAML (tabs disallowed within this context (block indentation)), expected YAML with two spaces per level and no tabs",
    );
    check_text(
        "a: [1, 2\n",
        "2:1: : found text that is not valid YAML (while parsing a flow sequence, expected ',' or ']'), expected YAML with two spaces per level and no tabs",
    );
    check_text(
        "a: 1\n---\nb: 2\n",
        "2:1: : found a second document, expected one document in a file",
    );
    check_text(
        "a: !python/object x\n",
        "1:4: : found the tag `!python/object`, expected a value without a tag",
    );
    check_text(
        "? [a]\n: b\n",
        "1:3: : found a collection as a key, expected a text as a key",
    );
}

#[test]
fn secrets_stay_out_of_reports() {
    let cases = [
        ("password: hunter2", "password: [hunter2]"),
        ("password: hunter2", "pasword: hunter2"),
        ("      registry: ghcr.io\n", "      registry: hunter2!\n"),
        ("      - MODE=test\n", "      - hunter2\n"),
        ("      - MODE=test\n", "      - 1A=hunter2\n"),
        ("      - MODE=test\n", "      - MODE: hunter2\n"),
        ("      - MODE=test\n", "      - \"MODE=hunter2\\0\"\n"),
    ];
    for (old, new) in cases {
        assert_eq!(GOOD.matches(old).count(), 1, "{old:?} must stand once in the file");
        let report = parse("app.yaml", GOOD.replace(old, new).as_bytes()).expect_err("refused");
        let machine = serde_json::to_string(&report).expect("JSON");
        for text in [report.to_string(), machine, format!("{report:?}")] {
            assert!(!text.contains("hunter2"), "{new:?} is repeated in:\n{text}");
        }
    }
    let deployment = parse("app.yaml", GOOD.as_bytes()).expect("a good file");
    let shown = format!("{deployment:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("\"test\""), "{shown}");
}
