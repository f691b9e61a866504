//! The declaration of a section, and what it expands to.

use super::{FromConfig, Node, Origin, Problems, Validate, Value};

/// What [`section!`](crate::section) implements: a table with known keys.
pub trait Section: Sized + Validate {
    /// Every key it knows.
    const KEYS: &'static [&'static str];

    /// Reads every field, so that every problem is found, before any is missed.
    fn read_fields(node: &Node, problems: &mut Problems) -> Option<Self>;

    /// Appends the commented keys, then the commented sections inside.
    fn write_example(path: &str, out: &mut String);
}

/// Reads a section: unknown keys, then fields, then [`Validate`].
#[doc(hidden)]
pub fn read_section<S: Section>(node: &Node, problems: &mut Problems) -> Option<S> {
    problems.remember(node);
    let Value::Table(entries) = &node.value else {
        problems.wrong_type("a section", &node.value);
        return None;
    };
    let mut unknown: Vec<_> = entries
        .iter()
        .filter(|(key, _)| !S::KEYS.contains(&key.as_str()))
        .collect();
    // In the order of the file; those of the environment, which has none, come first.
    unknown.sort_by_key(|(_, value)| match value.origin {
        Origin::File { line, column } => (line, column),
        _ => (0, 0),
    });
    for (key, value) in unknown {
        problems.unknown_key(key, value, S::KEYS);
    }
    let section = S::read_fields(node, problems)?;
    section.problems(problems);
    Some(section)
}

/// Reads one field of a section; `default` stands in where the key is not there.
pub fn read_field<T: FromConfig>(
    node: &Node,
    key: &str,
    default: Option<fn() -> T>,
    problems: &mut Problems,
) -> Option<T> {
    problems.enter(key);
    let child = match &node.value {
        Value::Table(entries) => entries.get(key),
        _ => None,
    };
    let value = match (child, default) {
        (Some(child), _) => {
            problems.remember(child);
            T::from_node(child, problems)
        }
        (None, Some(default)) => Some(default()),
        (None, None) => T::absent(problems),
    };
    problems.leave();
    value
}

/// One key of an example file.
#[doc(hidden)]
pub fn write_example_field<T: FromConfig>(key: &str, comment: &[&str], default: Option<fn() -> T>, out: &mut String) {
    for line in comment {
        out.push_str(format!("#{line}").trim_end());
        out.push('\n');
    }
    match default.and_then(|default| default().example()) {
        Some(text) => out.push_str(&format!("{key} = {text}\n\n")),
        None if T::kind().contains("optional") => out.push_str(&format!("# {key} = ({})\n\n", T::kind())),
        None => out.push_str(&format!("# {key} = (required: {})\n\n", T::kind())),
    }
}

/// One section inside an example file.
#[doc(hidden)]
pub fn write_example_section<T: FromConfig>(parent: &str, key: &str, comment: &[&str], out: &mut String) {
    let path = if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    };
    let mut inner = String::new();
    if T::example_section(&path, &mut inner) {
        for line in comment {
            out.push_str(format!("#{line}").trim_end());
            out.push('\n');
        }
        out.push_str(&format!("[{path}]\n{inner}"));
    }
}

/// Declares a configuration section: a struct whose doc comments are the comments of the example file.
///
/// A field without default is required, unless its type is `Option`; `= expression` gives a default. Sections nest: a
/// section whose table is missing is read from its defaults.
#[macro_export]
macro_rules! section {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $comment:literal])*
                $field_visibility:vis $field:ident : $type:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        $visibility struct $name {
            $( $(#[doc = $comment])* $field_visibility $field: $type, )*
        }

        impl $crate::config::Section for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn read_fields(
                node: &$crate::config::Node,
                problems: &mut $crate::config::Problems,
            ) -> Option<Self> {
                $(
                    let $field: Option<$type> = $crate::config::read_field(
                        node,
                        stringify!($field),
                        $crate::section!(@default $type $(, $default)?),
                        problems,
                    );
                )*
                Some(Self { $($field: $field?),* })
            }

            fn write_example(path: &str, out: &mut String) {
                $(
                    if !<$type as $crate::config::FromConfig>::example_section("", &mut String::new()) {
                        $crate::config::write_example_field::<$type>(
                            stringify!($field),
                            &[$($comment),*],
                            $crate::section!(@default $type $(, $default)?),
                            out,
                        );
                    }
                )*
                $(
                    $crate::config::write_example_section::<$type>(
                        path, stringify!($field), &[$($comment),*], out,
                    );
                )*
                let _ = (path, out);
            }
        }

        impl $crate::config::FromConfig for $name {
            fn kind() -> String {
                "a section".to_owned()
            }

            fn from_node(
                node: &$crate::config::Node,
                problems: &mut $crate::config::Problems,
            ) -> Option<Self> {
                $crate::config::read_section(node, problems)
            }

            fn absent(problems: &mut $crate::config::Problems) -> Option<Self> {
                let nothing = $crate::config::Node {
                    value: $crate::config::Value::Table(Default::default()),
                    origin: $crate::config::Origin::Absent,
                };
                $crate::config::read_section(&nothing, problems)
            }

            fn example_section(path: &str, out: &mut String) -> bool {
                <Self as $crate::config::Section>::write_example(path, out);
                true
            }
        }
    };
    (@default $type:ty) => { None::<fn() -> $type> };
    (@default $type:ty, $default:expr) => { Some((|| $default) as fn() -> $type) };
}
