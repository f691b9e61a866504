//! Amounts as people write them.

use std::fmt;
use std::str::FromStr;

use manifest::Decimal;

use crate::updates::Accept;

/// Thousandths of a core: `4`, `0.5`, `500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores(pub u64);

/// Bytes: `8Gi`, `512Mi`, `10G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity(pub u64);

/// Whole tokens: `0.02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price(pub Decimal);

/// A plain number: `2.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub Decimal);

/// Ports: `30000-30999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, which is part of it.
    pub last: u16,
}

impl Number {
    /// Twenty.
    pub const TWENTY: Self = Self(Decimal::whole(20));
}

impl Price {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);
}

daemon::config_from_text!(Cores, "cores such as \"4\", \"0.5\" or \"500m\"");
daemon::config_from_text!(Quantity, "an amount such as \"512Mi\" or \"8Gi\"");
daemon::config_from_text!(Price, "whole tokens as text such as \"0.02\"");
daemon::config_from_text!(Number, "a number as text such as \"2.5\"");
daemon::config_from_text!(Accept, "\"same-or-smaller\", \"if-it-fits\" or \"never\"");
daemon::config_from_text!(PortRange, "ports such as \"30000-30999\"");

impl FromStr for Cores {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "it is not a number of cores, at most three digits after the point";
        if let Some(thousandths) = text.strip_suffix('m') {
            return thousandths.parse().map(Self).map_err(|_| WRONG);
        }
        let cores: Decimal = text.parse().map_err(|_| WRONG)?;
        let factor = 3u32.checked_sub(cores.scale().into()).ok_or(WRONG)?;
        cores
            .digits()
            .checked_mul(10u128.pow(factor))
            .and_then(|thousandths| u64::try_from(thousandths).ok())
            .map(Self)
            .ok_or(WRONG)
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000) {
            write!(formatter, "{}", self.0 / 1_000)
        } else {
            write!(formatter, "{}m", self.0)
        }
    }
}

const UNITS: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("K", 1_000),
];

impl FromStr for Quantity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_suffix('B').unwrap_or(text);
        let (unit, factor) = UNITS
            .into_iter()
            .find(|(unit, _)| text.ends_with(unit))
            .ok_or("it has no unit (Ki, Mi, Gi, Ti, K, M, G, T)")?;
        let amount: u64 = text[..text.len() - unit.len()]
            .trim()
            .parse()
            .map_err(|_| "it does not begin with a whole number")?;
        amount.checked_mul(factor).map(Self).ok_or("it does not fit 64 bits")
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .into_iter()
            .take(4)
            .find(|(_, factor)| self.0.is_multiple_of(*factor))
            .unwrap_or(("", 1));
        write!(formatter, "{}{unit}", self.0 / factor)
    }
}

impl FromStr for Price {
    type Err = manifest::DecimalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Number {
    type Err = manifest::DecimalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

const POLICIES: [(&str, Accept); 3] = [
    ("same-or-smaller", Accept::SameOrSmaller),
    ("if-it-fits", Accept::IfItFits),
    ("never", Accept::Never),
];

impl FromStr for Accept {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = POLICIES.into_iter().find(|(name, _)| *name == text);
        found
            .map(|(_, policy)| policy)
            .ok_or("it is none of same-or-smaller, if-it-fits, never")
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = POLICIES.into_iter().find(|(_, policy)| policy == self);
        formatter.write_str(found.map_or("never", |(name, _)| name))
    }
}

impl FromStr for PortRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').ok_or("it has no `-`")?;
        let port = |text: &str| text.trim().parse().map_err(|_| "a port is a number from 0 to 65535");
        Ok(Self {
            first: port(first)?,
            last: port(last)?,
        })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        assert_eq!("0.5".parse(), Ok(Cores(500)));
        assert_eq!("500m".parse(), Ok(Cores(500)));
        assert_eq!("8Gi".parse(), Ok(Quantity(8 << 30)));
        assert_eq!("10GB".parse(), Ok(Quantity(10_000_000_000)));
        for wrong in ["", "m", "0.0001", "-1", "1e3"] {
            assert!(wrong.parse::<Cores>().is_err(), "{wrong}");
        }
        for wrong in ["8", "Gi", "-8Gi", "0.5Gi", "99999999999999999999Gi", "17000000Ti"] {
            assert!(wrong.parse::<Quantity>().is_err(), "{wrong}");
        }
        assert!("30000".parse::<PortRange>().is_err());
        assert!("30000-99999".parse::<PortRange>().is_err());
    }
}
