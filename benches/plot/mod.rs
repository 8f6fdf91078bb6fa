//! Pictures of measurements, as SVG: how delays are distributed, and how something grows.
//!
//! They are drawn to be read in a README: at 860 pixels, on a white ground also where the page is
//! dark, without a legend to look things up in. The colour says what somebody is: pgcertd is
//! blue, the limit is black, all others are orange.

#![allow(dead_code, reason = "each bench draws what it needs")]

use std::ops::Range;

use anyhow::{Error, Result, anyhow, bail, ensure};
use plotters::{
    coord::{Shift, combinators::LogCoord, ranged1d::Ranged},
    element::DashedPathElement,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

const WIDTH: u32 = 860;
const BLACK_TEXT: RGBColor = RGBColor(31, 35, 40);
const GREY_TEXT: RGBColor = RGBColor(89, 99, 110);
const GRID: RGBColor = RGBColor(216, 222, 228);

/// Whom a row or a curve is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// pgcertd itself.
    Pgcertd,
    /// The program that does the least that anyone must do.
    Limit,
    /// Anyone else.
    Peer,
}

impl Whose {
    fn colour(self) -> RGBColor {
        match self {
            Self::Pgcertd => RGBColor(9, 105, 218),
            Self::Limit => BLACK_TEXT,
            Self::Peer => RGBColor(188, 76, 0),
        }
    }
}

/// What stands above a picture.
pub struct Captions<'a> {
    /// What is measured.
    pub title: &'a str,
    /// How it was measured, or how to read it.
    pub subtitle: &'a str,
}

/// A row of a picture of delays.
pub struct Delays<'a> {
    /// Its name, of some 34 characters at most.
    pub name: &'a str,
    /// Whose delays they are.
    pub whose: Whose,
    /// All of them, in any order; there is at least one, and each is above 0.
    pub seconds: &'a [f64],
}

/// A curve of a picture of growth.
pub struct Curve<'a> {
    /// Its name, of some 22 characters at most, written at its end.
    pub name: &'a str,
    /// Whose it is: the limit's curve is dashed.
    pub whose: Whose,
    /// N and what was measured there, ascending; at least one, and all above 0.
    pub points: &'a [(f64, f64)],
}

/// An axis.
pub struct Axis<'a> {
    /// What it shows, with the unit where the labels have none.
    pub title: &'a str,
    /// How a value on it is written: [`duration`], [`count`].
    pub label: fn(f64) -> String,
}

/// Seconds as people write them: `0.35 ms`, `12 ms`, `1.5 s`.
pub fn duration(seconds: f64) -> String {
    let (value, unit) = if seconds < 0.999_5e-3 {
        (seconds * 1e6, "µs")
    } else if seconds < 0.999_5 {
        (seconds * 1e3, "ms")
    } else {
        (seconds, "s")
    };
    format!("{} {unit}", count(value))
}

/// A number with at most three digits that count.
pub fn count(value: f64) -> String {
    let decimals = match value {
        0.0..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Draws a row for each: every delay a dot on a logarithmic axis, the median a bar, and median and
/// 99th percentile in numbers beside it.
pub fn delays(captions: &Captions, rows: &[Delays]) -> Result<String> {
    const ROW: u32 = 44;
    const LEFT: u32 = 262;
    const NUMBERS: i32 = 88;
    let bottom = TOP + HEADS + rows.len() as u32 * ROW;
    let range = enclosing(rows.iter().flat_map(|row| row.seconds.iter().copied()))?;
    draw(captions, bottom + 34, |root| {
        let end = (WIDTH - MARGIN) as i32 - 2 * NUMBERS;
        let across = logarithmic(&range, (LEFT as i32, end));
        for tick in ticks(&range, 7) {
            let x = across(tick.value);
            line(root, (x, (TOP + HEADS) as i32), (x, bottom as i32), GRID, 1)?;
            if tick.is_labelled {
                write(
                    root,
                    &duration(tick.value),
                    (x, bottom as i32 + 8),
                    13,
                    GREY_TEXT,
                    HPos::Center,
                )?;
            }
        }
        let columns = [1, 0].map(|column| (WIDTH - MARGIN) as i32 - column * NUMBERS);
        for (head, x) in ["p50", "p99"].into_iter().zip(columns) {
            write(root, head, (x, TOP as i32), 13, GREY_TEXT, HPos::Right)?;
        }
        for (index, row) in rows.iter().enumerate() {
            let colour = row.whose.colour();
            let middle = (TOP + HEADS) as i32 + (index as u32 * ROW + ROW / 2) as i32;
            write_middle(root, row.name, (MARGIN as i32, middle), colour, HPos::Left)?;
            for (number, seconds) in row.seconds.iter().enumerate() {
                // Spread over the row's height, so that dots of one delay stay apart.
                let spread = (number as f64 * 0.618_033_988_749_895).fract() - 0.5;
                let y = middle + (spread * f64::from(ROW) * 0.62) as i32;
                let dot = Circle::new((across(*seconds), y), 3, colour.mix(0.3).filled());
                root.draw(&dot).map_err(fault)?;
            }
            let mut sorted = row.seconds.to_vec();
            sorted.sort_by(f64::total_cmp);
            let quantiles = [50, 99].map(|percent| percentile(&sorted, percent));
            let x = across(quantiles[0]);
            line(root, (x, middle - 17), (x, middle + 17), colour, 4)?;
            for (quantile, x) in quantiles.into_iter().zip(columns) {
                write_middle(root, &duration(quantile), (x, middle), colour, HPos::Right)?;
            }
        }
        Ok(())
    })
}

/// Draws what grows with N, on two logarithmic axes; names stand at the curves' ends.
pub fn growth(captions: &Captions, n: &Axis, measured: &Axis, curves: &[Curve]) -> Result<String> {
    const LEFT: u32 = 84;
    const NAMES: u32 = 190;
    const HEIGHT: u32 = 300;
    let bottom = (TOP + HEADS + HEIGHT) as i32;
    let points = || curves.iter().flat_map(|curve| curve.points);
    let n_range = enclosing(points().map(|point| point.0))?;
    let range = enclosing(points().map(|point| point.1))?;
    draw(captions, bottom as u32 + 58, |root| {
        let (start, end) = (LEFT as i32, (WIDTH - NAMES - MARGIN) as i32);
        let across = logarithmic(&n_range, (start, end));
        let up = logarithmic(&range, (bottom, (TOP + HEADS) as i32));
        write(
            root,
            measured.title,
            (MARGIN as i32, TOP as i32),
            13,
            GREY_TEXT,
            HPos::Left,
        )?;
        for tick in ticks(&range, 12) {
            let y = up(tick.value);
            line(root, (start, y), (end, y), GRID, 1)?;
            if tick.is_labelled {
                let label = (measured.label)(tick.value);
                write(root, &label, (start - 8, y - 8), 13, GREY_TEXT, HPos::Right)?;
            }
        }
        let mut measured_at: Vec<f64> = points().map(|point| point.0).collect();
        measured_at.sort_by(f64::total_cmp);
        measured_at.dedup();
        for value in measured_at {
            let x = across(value);
            line(root, (x, (TOP + HEADS) as i32), (x, bottom), GRID, 1)?;
            write(
                root,
                &(n.label)(value),
                (x, bottom + 8),
                13,
                GREY_TEXT,
                HPos::Center,
            )?;
        }
        let center = i32::midpoint(start, end);
        write(
            root,
            n.title,
            (center, bottom + 30),
            13,
            GREY_TEXT,
            HPos::Center,
        )?;

        let mut ends = Vec::new();
        for curve in curves {
            let colour = curve.whose.colour();
            let on_screen: Vec<_> = curve
                .points
                .iter()
                .map(|at| (across(at.0), up(at.1)))
                .collect();
            if curve.whose == Whose::Limit {
                let dashes = on_screen.iter().copied();
                let dashed = DashedPathElement::new(dashes, 8, 5, colour.stroke_width(2));
                root.draw(&dashed).map_err(fault)?;
            } else {
                let path = PathElement::new(on_screen.clone(), colour.stroke_width(3));
                root.draw(&path).map_err(fault)?;
            }
            for at in &on_screen {
                root.draw(&Circle::new(*at, 4, colour.filled()))
                    .map_err(fault)?;
            }
            let last = on_screen.last().map_or(bottom, |at| at.1);
            ends.push((last, curve.name, colour));
        }
        // A name is where its curve ends, or as far below as the one above needs.
        ends.sort_by_key(|end| end.0);
        let mut free = i32::MIN;
        for (y, name, colour) in ends {
            let y = y.max(free);
            free = y + 20;
            write_middle(root, name, (end + 12, y), colour, HPos::Left)?;
        }
        Ok(())
    })
}

const MARGIN: u32 = 20;
/// Where what follows the captions begins, and how high the heads of its columns are.
const TOP: u32 = 76;
const HEADS: u32 = 24;

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(
    captions: &Captions,
    height: u32,
    body: impl FnOnce(&Root) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(fault)?;
        let margin = MARGIN as i32;
        write_bold(&root, captions.title, (margin, 16))?;
        write(
            &root,
            captions.subtitle,
            (margin, 44),
            14,
            GREY_TEXT,
            HPos::Left,
        )?;
        body(&root)?;
        root.present().map_err(fault)?;
    }
    // For who does not see it.
    let escaped = captions.title.replace('&', "&amp;").replace('<', "&lt;");
    Ok(svg.replacen(
        ">\n",
        &format!(" role=\"img\">\n<title>{escaped}</title>\n"),
        1,
    ))
}

/// Where a value lies between two pixels.
fn logarithmic(range: &Range<f64>, pixels: (i32, i32)) -> impl Fn(f64) -> i32 {
    let coordinate = LogCoord::from(range.clone().log_scale());
    move |value| coordinate.map(&value, pixels)
}

/// A range from a round number to a round number, in which all values lie.
fn enclosing(values: impl Iterator<Item = f64>) -> Result<Range<f64>> {
    let (mut least, mut greatest) = (f64::INFINITY, 0.0_f64);
    for value in values {
        ensure!(
            value > 0.0 && value.is_finite(),
            "{value} is on no logarithmic axis"
        );
        (least, greatest) = (least.min(value), greatest.max(value));
    }
    ensure!(least <= greatest, "there is nothing to draw");
    let below = round_numbers()
        .filter(|number| *number < least * 0.95)
        .last();
    let above = round_numbers().find(|number| *number > greatest * 1.05);
    match (below, above) {
        (Some(below), Some(above)) => Ok(below..above),
        _ => bail!("{least} to {greatest} is too wide to draw"),
    }
}

/// 1, 2 and 5 times the powers of ten, ascending.
fn round_numbers() -> impl Iterator<Item = f64> {
    (-9..=12).flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(exponent)))
}

/// A line across the picture.
struct Tick {
    value: f64,
    is_labelled: bool,
}

/// All round numbers of a range; where they are more than the axis has room to label, the powers of ten alone are.
fn ticks(range: &Range<f64>, room: usize) -> Vec<Tick> {
    let inside = range.start * 0.999..range.end * 1.001;
    let numbers = round_numbers().enumerate();
    let shown: Vec<_> = numbers
        .filter(|(_, value)| inside.contains(value))
        .collect();
    let has_room = shown.len() <= room;
    shown
        .into_iter()
        .map(|(number, value)| Tick {
            value,
            is_labelled: has_room || number % 3 == 0,
        })
        .collect()
}

/// Of values in ascending order, by nearest rank.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

fn line(root: &Root, from: (i32, i32), to: (i32, i32), colour: RGBColor, width: u32) -> Result<()> {
    let path = PathElement::new([from, to], colour.stroke_width(width));
    root.draw(&path).map_err(fault)
}

/// Text below a point.
fn write(
    root: &Root,
    text: &str,
    at: (i32, i32),
    size: u32,
    colour: RGBColor,
    side: HPos,
) -> Result<()> {
    text_at(
        root,
        text,
        at,
        font(size),
        colour,
        Pos::new(side, VPos::Top),
    )
}

/// Text at the height of a point.
fn write_middle(
    root: &Root,
    text: &str,
    at: (i32, i32),
    colour: RGBColor,
    side: HPos,
) -> Result<()> {
    text_at(
        root,
        text,
        at,
        font(14),
        colour,
        Pos::new(side, VPos::Center),
    )
}

fn write_bold(root: &Root, text: &str, at: (i32, i32)) -> Result<()> {
    let font = font(17).style(FontStyle::Bold);
    text_at(
        root,
        text,
        at,
        font,
        BLACK_TEXT,
        Pos::new(HPos::Left, VPos::Top),
    )
}

fn text_at(
    root: &Root,
    text: &str,
    at: (i32, i32),
    font: FontDesc,
    colour: RGBColor,
    place: Pos,
) -> Result<()> {
    let style = font.color(&colour).pos(place);
    root.draw(&Text::new(text.to_owned(), at, style))
        .map_err(fault)
}

/// The reader's own sans serif font; the size is in pixels, which plotters divides by 1.24.
fn font(size: u32) -> FontDesc<'static> {
    let family = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif";
    FontDesc::new(
        FontFamily::Name(family),
        f64::from(size) * 1.24,
        FontStyle::Normal,
    )
}

/// The error of drawing into a string.
fn fault(error: impl std::error::Error) -> Error {
    anyhow!("cannot draw: {error}")
}
