//! Reads and writes grey-scale images in the PGM format of Netpbm: plain (`P2`) and raw (`P5`), 8 and 16 bit.
//!
//! Source: the Netpbm manual, page `pgm(5)`. One image per file; what follows it is refused.

/// The most pixels an image may have; every buffer is bounded by it.
pub(super) const MAX_PIXELS: usize = 16 * 1024 * 1024;

/// A grey-scale image: `pixels` holds `width * height` values from 0 to `max`, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Pixels per row, at least 1.
    pub(super) width: usize,
    /// Rows, at least 1.
    pub(super) height: usize,
    /// The value that stands for white, 1 to 65535.
    pub(super) max: u16,
    /// The grey values.
    pub(super) pixels: Vec<u16>,
}

/// Why bytes are not an image that this tool takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PgmError {
    /// The magic number is missing.
    #[error("this is not a PGM image: it begins with neither `P2` nor `P5`")]
    Magic,
    /// A number of the head is missing, malformed or out of range.
    #[error("the {0} must be an integer from 1 to {1}")]
    Head(&'static str, usize),
    /// Width times height is out of range.
    #[error("the image has {0} x {1} pixels, more than {MAX_PIXELS}")]
    Pixels(usize, usize),
    /// The raster ends early.
    #[error("the image ends after {0} of {1} pixels")]
    Short(usize, usize),
    /// A value is above the maximum or not a number.
    #[error("pixel {0} is not an integer from 0 to {1}")]
    Value(usize, u16),
    /// Something follows the raster.
    #[error("{0} bytes follow the image")]
    Trailing(usize),
}

impl Image {
    /// Reads one image.
    ///
    /// # Errors
    /// [`PgmError`] says what is wrong and where.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PgmError> {
        let (plain, rest) = match bytes.split_first_chunk::<2>() {
            Some((b"P2", rest)) => (true, rest),
            Some((b"P5", rest)) => (false, rest),
            _ => return Err(PgmError::Magic),
        };
        let mut reader = Reader { rest };
        let width = reader.head("width", MAX_PIXELS)?;
        let height = reader.head("height", MAX_PIXELS)?;
        let max = u16::try_from(reader.head("maximum grey value", 65_535)?).unwrap_or(u16::MAX);
        let count = width
            .checked_mul(height)
            .filter(|count| *count <= MAX_PIXELS)
            .ok_or(PgmError::Pixels(width, height))?;
        let pixels = if plain {
            reader.plain(count, max)?
        } else {
            reader.raw(count, max)?
        };
        Ok(Self {
            width,
            height,
            max,
            pixels,
        })
    }

    /// The image as a raw PGM file, two bytes per pixel where `max` needs them.
    #[must_use]
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = format!("P5\n{} {}\n{}\n", self.width, self.height, self.max).into_bytes();
        if self.max < 256 {
            out.extend(
                self.pixels
                    .iter()
                    .map(|value| u8::try_from(*value).unwrap_or(u8::MAX)),
            );
        } else {
            out.extend(self.pixels.iter().flat_map(|value| value.to_be_bytes()));
        }
        out
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    /// A number of the head: white space and comments, then digits.
    fn head(&mut self, name: &'static str, most: usize) -> Result<usize, PgmError> {
        if !self
            .rest
            .first()
            .is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'#')
        {
            return Err(PgmError::Head(name, most));
        }
        self.skip();
        self.number()
            .filter(|value| (1..=most).contains(value))
            .ok_or(PgmError::Head(name, most))
    }

    fn skip(&mut self) {
        let mut comment = false;
        let end = self.rest.iter().position(|byte| {
            comment = (comment || *byte == b'#') && *byte != b'\n' && *byte != b'\r';
            !comment && !byte.is_ascii_whitespace()
        });
        self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or_default();
    }

    fn number(&mut self) -> Option<usize> {
        let end = self
            .rest
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn plain(&mut self, count: usize, max: u16) -> Result<Vec<u16>, PgmError> {
        // A value takes at least one digit and, but for the last, a separator: no more is set aside than can come.
        let mut pixels = Vec::with_capacity(count.min(self.rest.len() / 2 + 1));
        for index in 0..count {
            let separated = self
                .rest
                .first()
                .is_none_or(|byte| byte.is_ascii_whitespace() || *byte == b'#');
            self.skip();
            if self.rest.is_empty() {
                return Err(PgmError::Short(index, count));
            }
            let value = self.number().and_then(|value| u16::try_from(value).ok());
            match value.filter(|value| separated && *value <= max) {
                Some(value) => pixels.push(value),
                None => return Err(PgmError::Value(index, max)),
            }
        }
        self.skip();
        if self.rest.is_empty() {
            Ok(pixels)
        } else {
            Err(PgmError::Trailing(self.rest.len()))
        }
    }

    fn raw(&mut self, count: usize, max: u16) -> Result<Vec<u16>, PgmError> {
        let wide = max >= 256;
        let size = if wide { 2 } else { 1 };
        let raster = match self.rest.split_first() {
            Some((byte, raster)) if byte.is_ascii_whitespace() => raster,
            _ => return Err(PgmError::Short(0, count)),
        };
        let bytes = count * size;
        if raster.len() < bytes {
            return Err(PgmError::Short(raster.len() / size, count));
        }
        if raster.len() > bytes {
            return Err(PgmError::Trailing(raster.len() - bytes));
        }
        let pixels: Vec<u16> = if wide {
            raster
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| u16::from_be_bytes(*pair))
                .collect()
        } else {
            raster.iter().copied().map(u16::from).collect()
        };
        match pixels.iter().position(|value| *value > max) {
            Some(index) => Err(PgmError::Value(index, max)),
            None => Ok(pixels),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn images() -> impl Strategy<Value = Image> {
        (1_usize..20, 1_usize..20, 1_u16..).prop_flat_map(|(width, height, max)| {
            proptest::collection::vec(0..=max, width * height).prop_map(move |pixels| Image {
                width,
                height,
                max,
                pixels,
            })
        })
    }

    proptest! {
        #[test]
        fn a_raw_image_reads_as_it_was_written(image in images()) {
            prop_assert_eq!(Image::parse(&image.encode()), Ok(image));
        }

        #[test]
        fn a_plain_image_reads_as_it_was_written(image in images(), comment in "[ -~]{0,20}") {
            let mut text = format!("P2\n# {comment}\n{} {}\t#x\n{}\n", image.width, image.height, image.max);
            for value in &image.pixels {
                text.push_str(&format!("{value}\n"));
            }
            prop_assert_eq!(Image::parse(text.as_bytes()), Ok(image));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(
            head in "P[25][ \n#]?[0-9]{0,6}[ \n][0-9]{0,6}[ \n#a]{0,3}[0-9]{0,6}[ \n]?",
            tail in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = Image::parse(&[head.as_bytes(), &tail].concat());
            let _ = Image::parse(&tail);
        }

        #[test]
        fn a_cut_image_is_refused(image in images(), cut in any::<proptest::sample::Index>()) {
            let whole = image.encode();
            let part = &whole[..cut.index(whole.len())];
            prop_assert!(Image::parse(part).is_err());
        }
    }

    #[test]
    fn each_flaw_is_named() {
        for (text, message) in [
            (
                "",
                "this is not a PGM image: it begins with neither `P2` nor `P5`",
            ),
            (
                "P6 1 1 255 a",
                "this is not a PGM image: it begins with neither `P2` nor `P5`",
            ),
            ("P5 0 1 255 ", "the width must be an integer from 1 to 16777216"),
            ("P5 1 x 255 ", "the height must be an integer from 1 to 16777216"),
            (
                "P5 1 1 65536 a",
                "the maximum grey value must be an integer from 1 to 65535",
            ),
            (
                "P5 1 1",
                "the maximum grey value must be an integer from 1 to 65535",
            ),
            ("P51 1 1 ", "the width must be an integer from 1 to 16777216"),
            (
                "P5 99999 99999 255 a",
                "the image has 99999 x 99999 pixels, more than 16777216",
            ),
            ("P5 2 2 255 abc", "the image ends after 3 of 4 pixels"),
            ("P5 1 1 255 abc", "2 bytes follow the image"),
            ("P5 1 1 9 a", "pixel 0 is not an integer from 0 to 9"),
            ("P2 2 1 9 1 x", "pixel 1 is not an integer from 0 to 9"),
            ("P2 2 1 9 1 10", "pixel 1 is not an integer from 0 to 9"),
            ("P2 2 1 9 1", "the image ends after 1 of 2 pixels"),
            ("P2 1 1 9 1 2", "1 bytes follow the image"),
        ] {
            let error = Image::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
    }

    #[test]
    fn sixteen_bits_are_big_endian() {
        let image = Image::parse(b"P5 2 1 300 \x01\x2c\x00\x07").unwrap();
        assert_eq!(image.pixels, [300, 7]);
    }
}
