//! The deployment files in `examples/` pass, with the warnings that are meant to be there and no others.

use manifest::parse;

fn check(name: &str, expected_warnings: &[&str]) {
    let path = format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let deployment = parse(name, &bytes).unwrap_or_else(|report| panic!("{report}"));
    let warnings: Vec<_> = deployment
        .warnings
        .iter()
        .map(|warning| warning.message.as_str())
        .collect();
    assert_eq!(warnings, expected_warnings, "{name}");
}

#[test]
fn the_examples_pass() {
    check("hello.icl.yaml", &[]);
    check("two-services.icl.yaml", &[]);
    check("private-registry.icl.yaml", &[]);
    check("gpu.icl.yaml", &["HUGGING_FACE_HUB_TOKEN is empty"]);
}

#[test]
fn every_example_is_checked_here() {
    let folder = format!("{}/../../examples", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names = entries.map(|entry| {
        entry
            .expect("a readable entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let mut files: Vec<_> = names.filter(|name| name.ends_with(".icl.yaml")).collect();
    files.sort();
    assert_eq!(
        files,
        [
            "gpu.icl.yaml",
            "hello.icl.yaml",
            "private-registry.icl.yaml",
            "two-services.icl.yaml"
        ]
    );
}
