//! Segments a grey-scale image by Otsu's threshold.
//!
//! Source: N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and
//! Cybernetics 9(1), 1979: the level that parts the histogram into two classes with the largest variance between them.

use super::pgm::Image;

/// What a segmentation finds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segments {
    /// The grey level: pixels above it are foreground.
    pub(super) threshold: u16,
    /// The part of the pixels that is foreground, 0 to 1.
    pub(super) foreground: f64,
    /// Foreground 255, background 0.
    pub(super) mask: Image,
}

/// Smooths the image `passes` times by the mean of each 3 x 3 neighbourhood, then parts it by Otsu's threshold.
///
/// `go_on` is asked before every row with the part of the work that is done (0 to 1); `None` once it says no.
pub(super) fn segment(mut image: Image, passes: u32, go_on: &mut dyn FnMut(f64) -> bool) -> Option<Segments> {
    let rows = (f64::from(passes) + 1.0) * as_f64(image.height);
    let mut row = 0.0;
    let mut step = || {
        row += 1.0;
        go_on((row - 1.0) / rows)
    };
    for _ in 0..passes {
        image.pixels = smooth(&image, &mut step)?;
    }
    let mut histogram = vec![0_u64; usize::from(image.max) + 1];
    for line in image.pixels.chunks(image.width) {
        if !step() {
            return None;
        }
        for value in line {
            if let Some(count) = histogram.get_mut(usize::from(*value)) {
                *count += 1;
            }
        }
    }
    let threshold = threshold(&histogram);
    let pixels: Vec<u16> = image
        .pixels
        .iter()
        .map(|value| if *value > threshold { 255 } else { 0 })
        .collect();
    let above = pixels.iter().filter(|value| **value > 0).count();
    let foreground = as_f64(above) / as_f64(pixels.len().max(1));
    Some(Segments {
        threshold,
        foreground,
        mask: Image {
            max: 255,
            pixels,
            ..image
        },
    })
}

/// The grey level with the largest variance between the classes "up to it" and "above it"; the lowest of several.
/// Where only one level occurs it is that one, so that nothing is foreground.
#[must_use]
pub(super) fn threshold(histogram: &[u64]) -> u16 {
    let level = |index: usize| u16::try_from(index).unwrap_or(u16::MAX);
    let total: u64 = histogram.iter().sum();
    let sum: u64 = histogram
        .iter()
        .zip(0_u64..)
        .map(|(count, value)| count * value)
        .sum();
    let (mut below, mut below_sum) = (0_u64, 0_u64);
    let mut best: Option<(u16, f64)> = None;
    let mut lowest = None;
    for (index, (count, value)) in histogram.iter().zip(0_u64..).enumerate() {
        below += count;
        below_sum += count * value;
        if below > 0 && lowest.is_none() {
            lowest = Some(level(index));
        }
        let above = total - below;
        if below == 0 || above == 0 {
            continue;
        }
        // Variance between the classes, times total squared: (sum * below - total * below_sum)^2 / (below * above).
        let distance = float(sum) * float(below) - float(total) * float(below_sum);
        let variance = distance * distance / (float(below) * float(above));
        if best.is_none_or(|(_, most)| variance > most) {
            best = Some((level(index), variance));
        }
    }
    best.map(|(threshold, _)| threshold).or(lowest).unwrap_or(0)
}

fn smooth(image: &Image, step: &mut dyn FnMut() -> bool) -> Option<Vec<u16>> {
    let lines: Vec<&[u16]> = image.pixels.chunks(image.width).collect();
    let mut out = Vec::with_capacity(image.pixels.len());
    let mut columns: Vec<u32> = Vec::with_capacity(image.width);
    for (y, line) in lines.iter().enumerate() {
        if !step() {
            return None;
        }
        let above = lines.get(y.saturating_sub(1)).unwrap_or(line);
        let below = lines.get(y + 1).unwrap_or(line);
        columns.clear();
        columns.extend(
            above
                .iter()
                .zip(*line)
                .zip(*below)
                .map(|((a, b), c)| u32::from(*a) + u32::from(*b) + u32::from(*c)),
        );
        let mut left = columns.first().copied().unwrap_or(0);
        let mut right = columns.iter().skip(1);
        for here in &columns {
            let mean = (left + here + right.next().unwrap_or(here)) / 9;
            out.push(u16::try_from(mean).unwrap_or(image.max));
            left = *here;
        }
    }
    Some(out)
}

#[expect(clippy::cast_precision_loss, reason = "pixel counts stay far below 2^53")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sums of an image stay below 2^41, exact in 53 bits"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, in exact integers: for each level the class means are compared by fractions.
    fn by_definition(histogram: &[u64]) -> u16 {
        let mut best: Option<(usize, u128, u128)> = None;
        for level in 0..histogram.len() {
            let class = |range: &[u64], from: usize| {
                let count: u64 = range.iter().sum();
                let sum: u64 = range.iter().enumerate().map(|(i, n)| n * (from + i) as u64).sum();
                (i128::from(count), i128::from(sum))
            };
            let (n0, s0) = class(&histogram[..=level], 0);
            let (n1, s1) = class(&histogram[level + 1..], level + 1);
            if n0 == 0 || n1 == 0 {
                continue;
            }
            // n0 n1 (s0/n0 - s1/n1)^2 = (s0 n1 - s1 n0)^2 / (n0 n1)
            let distance = s0 * n1 - s1 * n0;
            let (top, bottom) = ((distance * distance) as u128, (n0 * n1) as u128);
            if best.is_none_or(|(_, most, under)| top * under > most * bottom) {
                best = Some((level, top, bottom));
            }
        }
        let only = histogram.iter().position(|count| *count > 0).unwrap_or(0);
        u16::try_from(best.map_or(only, |(level, ..)| level)).unwrap()
    }

    proptest! {
        #[test]
        fn the_threshold_is_that_of_the_definition(histogram in proptest::collection::vec(0_u64..40, 0..24)) {
            prop_assert_eq!(threshold(&histogram), by_definition(&histogram));
        }

        #[test]
        fn smoothing_stays_between_the_darkest_and_the_brightest(
            pixels in proptest::collection::vec(0_u16..=1000, 12..=12), passes in 0_u32..4,
        ) {
            let (low, high) = (*pixels.iter().min().unwrap(), *pixels.iter().max().unwrap());
            let image = Image { width: 4, height: 3, max: 1000, pixels };
            let mut smoothed = image.clone();
            for _ in 0..passes {
                smoothed.pixels = smooth(&smoothed, &mut || true).unwrap();
            }
            prop_assert_eq!(smoothed.pixels.len(), 12);
            prop_assert!(smoothed.pixels.iter().all(|value| (low..=high).contains(value)));
        }
    }

    #[test]
    fn two_levels_are_parted_between_them() {
        let image = Image {
            width: 4,
            height: 1,
            max: 255,
            pixels: vec![10, 200, 10, 200],
        };
        let segments = segment(image, 0, &mut |_| true).unwrap();
        assert_eq!(segments.threshold, 10);
        assert_eq!(segments.foreground.to_bits(), 0.5_f64.to_bits());
        assert_eq!(segments.mask.pixels, [0, 255, 0, 255]);
    }

    #[test]
    fn a_uniform_image_has_no_foreground() {
        let image = Image {
            width: 2,
            height: 2,
            max: 65_535,
            pixels: vec![777; 4],
        };
        let segments = segment(image, 3, &mut |_| true).unwrap();
        assert_eq!(
            (segments.threshold, segments.foreground.to_bits()),
            (777, 0.0_f64.to_bits())
        );
    }

    #[test]
    fn work_stops_at_the_row_at_which_it_is_told_to() {
        let image = Image {
            width: 8,
            height: 10,
            max: 255,
            pixels: vec![1; 80],
        };
        let mut rows = 0;
        let stopped = segment(image, 1_000, &mut |done| {
            assert!((0.0..1.0).contains(&done));
            rows += 1;
            rows < 25
        });
        assert_eq!((stopped, rows), (None, 25));
    }
}
