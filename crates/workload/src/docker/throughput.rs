//! What a pull has brought so far, layer by layer, and whether it brings enough.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::models::CreateImageInfo;

use super::turns::Pace;

/// What the engine says of the layers of one image.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: HashMap<String, Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    received: u64,
    total: u64,
    unpacked: u64,
    /// Engines without a total say for how many seconds they have been unpacking.
    unpacking_seconds: u64,
    waits: bool,
    is_here: bool,
}

impl Layers {
    /// Adds what one message of the engine says of a layer.
    pub(super) fn count(&mut self, event: CreateImageInfo) {
        let (Some(id), Some(status)) = (event.id, event.status) else {
            return;
        };
        let detail = event.progress_detail.unwrap_or_default();
        let unsigned = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let current = unsigned(detail.current).unwrap_or_default();
        let total = unsigned(detail.total).unwrap_or_default();
        match status.as_str() {
            "Pulling fs layer" => {
                self.layers.entry(id).or_default();
            }
            "Waiting" => self.layers.entry(id).or_default().waits = true,
            "Downloading" => {
                let layer = self.layers.entry(id).or_default();
                (layer.received, layer.total, layer.waits) = (current, total, false);
            }
            "Extracting" => {
                let layer = self.layers.entry(id).or_default();
                layer.is_here = true;
                match total {
                    0 => layer.unpacking_seconds = current,
                    _ => layer.unpacked = current,
                }
            }
            "Download complete" | "Verifying Checksum" | "Pull complete" | "Already exists" => {
                let layer = self.layers.entry(id).or_default();
                layer.received = layer.total;
                layer.is_here = true;
            }
            _ => {}
        }
    }

    /// Bytes that were downloaded.
    pub(super) fn received(&self) -> u64 {
        self.sum(|layer| layer.received)
    }

    /// Bytes to download, of the layers that were begun with.
    pub(super) fn total(&self) -> u64 {
        self.sum(|layer| layer.total)
    }

    /// Bytes that were downloaded or unpacked; where the engine counts the seconds of unpacking, those at the least
    /// throughput.
    fn done(&self, least_bytes_per_second: u64) -> u64 {
        let unpacked = self.sum(|layer| layer.unpacked);
        let seconds = self.sum(|layer| layer.unpacking_seconds);
        self.received()
            .saturating_add(unpacked)
            .saturating_add(seconds.saturating_mul(least_bytes_per_second))
    }

    /// Whether the engine has begun with no layer of those that are left, because it downloads others'.
    pub(super) fn are_held_up(&self) -> bool {
        let mut left = self.layers.values().filter(|layer| !layer.is_here).peekable();
        left.peek().is_some() && left.all(|layer| layer.waits)
    }

    fn sum(&self, part: impl Fn(&Layer) -> u64) -> u64 {
        self.layers.values().map(part).fold(0, u64::saturating_add)
    }
}

/// Whether a pull brings enough, one window of time after the other.
#[derive(Debug)]
pub(super) struct Meter {
    window: Duration,
    least_bytes_per_second: u64,
    since: Instant,
    done_before: u64,
    pace: Pace,
}

impl Meter {
    pub(super) fn new(window: Duration, least_bytes_per_second: u64, now: Instant) -> Self {
        Self {
            window,
            least_bytes_per_second,
            since: now,
            done_before: 0,
            pace: Pace::Unknown,
        }
    }

    /// How fast the pull was in the last whole window, or is in this one where that is enough already.
    pub(super) fn pace(&mut self, layers: &Layers, now: Instant) -> Pace {
        let done = layers.done(self.least_bytes_per_second);
        let enough = u128::from(self.least_bytes_per_second) * self.window.as_millis() / 1_000;
        let is_enough = u128::from(done.saturating_sub(self.done_before)) >= enough;
        let is_over = now.saturating_duration_since(self.since) >= self.window;
        if is_enough {
            self.pace = Pace::Enough;
        } else if is_over {
            self.pace = Pace::Slow;
        }
        if is_over {
            (self.since, self.done_before) = (now, done);
        }
        self.pace
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn says(layers: &mut Layers, id: &str, status: &str, current: i64, total: i64) {
        layers.count(CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            progress_detail: Some(ProgressDetail {
                current: Some(current),
                total: Some(total),
            }),
            ..CreateImageInfo::default()
        });
    }

    #[test]
    fn downloads_are_summed_over_layers() {
        let mut layers = Layers::default();
        says(&mut layers, "a", "Downloading", 10, 100);
        says(&mut layers, "b", "Downloading", 5, 50);
        says(&mut layers, "a", "Download complete", 0, 0);
        says(&mut layers, "a", "Extracting", 70, 100);
        assert_eq!((layers.received(), layers.total()), (105, 150));
        assert_eq!(layers.done(1_000), 175);
        says(&mut layers, "b", "Extracting", 3, 0);
        assert_eq!(layers.done(1_000), 3_175);
        says(&mut layers, "c", "Downloading", -1, -1);
        assert_eq!((layers.received(), layers.total()), (105, 150));
    }

    #[test]
    fn a_pull_is_held_up_while_every_layer_that_is_left_waits() {
        let mut layers = Layers::default();
        assert!(!layers.are_held_up());
        says(&mut layers, "base", "Already exists", 0, 0);
        assert!(!layers.are_held_up());
        for layer in ["a", "b"] {
            says(&mut layers, layer, "Pulling fs layer", 0, 0);
            says(&mut layers, layer, "Waiting", 0, 0);
        }
        assert!(layers.are_held_up());
        says(&mut layers, "a", "Downloading", 1, 10);
        assert!(!layers.are_held_up());
        says(&mut layers, "a", "Download complete", 0, 0);
        assert!(layers.are_held_up());
        // Another pull has brought it: nothing is left that could wait.
        says(&mut layers, "b", "Extracting", 1, 10);
        assert!(!layers.are_held_up());
    }

    #[test]
    fn a_drip_is_slow_after_a_window_and_the_least_throughput_is_enough() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut meter = Meter::new(Duration::from_secs(30), 1_000, begin);
        let mut layers = Layers::default();
        says(&mut layers, "a", "Downloading", 29_999, 1 << 30);
        assert_eq!(meter.pace(&layers, at(29)), Pace::Unknown);
        assert_eq!(meter.pace(&layers, at(30)), Pace::Slow);
        says(&mut layers, "a", "Downloading", 59_998, 1 << 30);
        assert_eq!(meter.pace(&layers, at(59)), Pace::Slow);
        says(&mut layers, "a", "Downloading", 59_999, 1 << 30);
        assert_eq!(meter.pace(&layers, at(59)), Pace::Enough);
        assert_eq!(meter.pace(&layers, at(60)), Pace::Enough);
        assert_eq!(meter.pace(&layers, at(89)), Pace::Enough);
        assert_eq!(meter.pace(&layers, at(90)), Pace::Slow);
    }
}
