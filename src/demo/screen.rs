//! The terminal that the picture is drawn on, put back as it was in the end.

use std::io::{self, Stdout, Write};

use super::picture::Size;

/// What a terminal that does not tell its size is taken for.
const USUAL: Size = Size { columns: 80, rows: 24 };
/// The alternate screen keeps what stood on the terminal; the cursor would flicker over the picture.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// A terminal that shows the picture until it is dropped.
pub(super) struct Screen(Stdout);

impl Screen {
    /// Takes the terminal over.
    pub(super) fn enter() -> io::Result<Screen> {
        // Made first: should writing fail half-way, leaving is due all the same.
        let mut screen = Screen(io::stdout());
        screen.write(ENTER)?;
        Ok(screen)
    }

    /// Its size now, which its user may change at any time; the last column stays free, since terminals differ in what they do
    /// with a cursor behind it.
    pub(super) fn size(&self) -> Size {
        match rustix::termios::tcgetwinsize(&self.0) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                Size { columns: usize::from(size.ws_col) - 1, rows: size.ws_row.into() }
            }
            _ => USUAL,
        }
    }

    /// Shows `lines` in place of what was shown before.
    pub(super) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        self.write(&frame(lines))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())?;
        self.0.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no putting back.
        let _ = self.write(LEAVE);
    }
}

/// One write for a whole frame, without clearing first, so that nothing flickers.
fn frame(lines: &[String]) -> String {
    let erase_line_end = "\x1b[K";
    let erase_below = "\x1b[J";
    let body: Vec<String> = lines.iter().map(|line| format!("{line}{erase_line_end}")).collect();
    format!("\x1b[H{}{erase_below}", body.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_overwrites_in_place_and_does_not_scroll() {
        assert_eq!(frame(&["a".into(), "b".into()]), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(frame(&[]), "\x1b[H\x1b[J");
    }
}
