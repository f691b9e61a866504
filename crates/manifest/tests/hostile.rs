//! Files that mean harm: each is refused with its place, in bounded time and memory.

use std::time::{Duration, Instant};

use manifest::{MAXIMUM_FILE_BYTES, Report, parse};

/// Far above what any of these files needs, far below what an unbounded reader would take.
const PATIENCE: Duration = Duration::from_secs(60);

fn refuse(what: &str, text: &[u8]) -> Report {
    let start = Instant::now();
    let report = parse("hostile.yaml", text).expect_err(what);
    assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
    assert!(
        report.to_string().len() < 64 * 1024,
        "{what}: a report of {} bytes",
        report.to_string().len()
    );
    report
}

fn check(what: &str, text: &[u8], line_and_column: (u32, u32), found: &str, expected: &str) {
    let report = refuse(what, text);
    let first = &report.problems[0];
    let place = (first.position.line, first.position.column);
    assert_eq!(
        (place, first.found.as_str(), first.expected.as_str()),
        (line_and_column, found, expected),
        "{what}"
    );
}

#[test]
fn a_file_of_ten_megabytes_is_refused_before_it_is_read() {
    let text = vec![b'#'; 10 * 1024 * 1024];
    check(
        "10 MiB",
        &text,
        (1, 1),
        "10485760 bytes",
        "a deployment file of at most 1048576 bytes",
    );
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", alias.trim_end_matches(", ")));
    }
    let expected = "at most 50000 values in a file";
    check(
        "a bomb of aliases",
        text.as_bytes(),
        (5, 30),
        "too many values",
        expected,
    );
}

#[test]
fn aliases_of_long_text_are_refused() {
    let mut text = format!("a: &a {}\nb:\n", "x".repeat(100_000));
    text.push_str(&"  - *a\n".repeat(40));
    let expected = "at most 2097152 bytes of text in a file's values";
    check(
        "copies of long text",
        text.as_bytes(),
        (23, 5),
        "too much text",
        expected,
    );
}

#[test]
fn aliases_that_contain_themselves_are_refused() {
    let expected = "an alias of something before it";
    check(
        "a circle",
        b"services: &s\n  web: *s\n",
        (2, 8),
        "an alias that contains itself",
        expected,
    );
}

#[test]
fn nesting_through_aliases_is_refused() {
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..1_000 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let report = refuse("a chain of aliases", text.as_bytes());
    assert_eq!(report.problems[0].found, "too many levels");
}

#[test]
fn repeated_punctuation_of_the_largest_size_ends_in_an_error() {
    let patterns = [
        "[",
        "{",
        "- ",
        "? ",
        "a: ",
        "- - ",
        "[]",
        "{}",
        "{a: ",
        "[a, ",
        "\"",
        "'",
        "&a ",
        "*a ",
        "!a ",
        "!!str ",
        "|\n",
        ">\n",
        "%TAG ! a\n",
        "---\n",
        "...\n",
        "\t",
        " ",
        "\n",
        "# \n",
        "a\n",
        "a: b\n",
        "- a\n",
        ": ",
        ",",
        "a:\n ",
        "\\",
        "\"\\",
        "\u{feff}",
        "é",
        "\u{0}",
        "? a\n: b\n",
        "{? a: b}, ",
        "key: \"",
        "a: |\n  ",
        "@",
        "`",
        "a #",
        "[a]: ",
        "!<a> ",
        "%YAML 1.2\n",
        "]",
        "}",
    ];
    for pattern in patterns {
        let text = pattern.repeat(MAXIMUM_FILE_BYTES / pattern.len());
        refuse(&format!("repeated {pattern:?}"), text.as_bytes());
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    check(
        "latin-1",
        b"version: \"1.0\"\n# caf\xe9\n",
        (2, 6),
        "bytes that are not UTF-8",
        "UTF-8 text",
    );
}

#[test]
fn long_keys_and_paths_stay_out_of_messages() {
    let text = format!("{}: 1\n", "k".repeat(300));
    check(
        "a long key",
        text.as_bytes(),
        (1, 1),
        "a key of 300 bytes",
        "a key of at most 256 bytes",
    );
    let mut nested = String::new();
    for level in 0..30 {
        nested.push_str(&format!("{}{}:\n", "  ".repeat(level), "k".repeat(250)));
    }
    refuse("nested long keys", nested.as_bytes());
}

#[test]
fn many_problems_are_counted_not_listed() {
    let mut text = String::from("version: \"1.0\"\n");
    for number in 0..10_000 {
        text.push_str(&format!("unknown{number}: 1\n"));
    }
    let report = refuse("many unknown keys", text.as_bytes());
    assert_eq!((report.problems.len(), report.omitted > 9_000), (50, true));
    assert!(report.to_string().ends_with("more"), "{report}");
}
