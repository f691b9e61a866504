//! What a terminal obeys: nothing that others wrote may have it.

/// Whether a letter commands a terminal: control characters, and those that turn the direction of what is written around them.
pub fn commands(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
