//! The payload of a tile: full rows, tails, and the choice between coded and raw tiles.

use fused_rans_layout::{LANES, LINE, MAX_TAIL_ROWS, TileEntry, TileKind};

/// The coded parts of a slab.
pub(super) struct CodedSlab {
    /// Words of the raw planes.
    pub raw: Vec<u32>,
    /// Words of each lane's stream.
    pub streams: Vec<Vec<u32>>,
    /// Records of the exceptions, in ascending order.
    pub exceptions: Vec<u32>,
}

/// The stored words of the streams of a slab.
struct StoredRows {
    /// Words of the full rows, which are stored for every lane.
    full: Vec<u32>,
    /// Number of rows after these.
    tail_rows: usize,
    /// Number of tail words of each lane.
    tail_lengths: Vec<usize>,
    /// Tail words, row by row.
    tails: Vec<u32>,
}

/// Divides the words of the streams of a slab into full rows and tails.
fn store_rows(streams: &[Vec<u32>]) -> StoredRows {
    // A lane stores its words up to the last one that is not zero. The number of rows counts all words.
    let stored = |stream: &Vec<u32>| stream.iter().rposition(|&word| word != 0);
    let stored = streams.iter().map(|stream| stored(stream).map_or(0, |last| last + 1));
    let stored: Vec<usize> = stored.collect();
    let rows = streams.iter().map(Vec::len).max().expect("there are 32");
    let in_all_lanes = |row: &usize| stored.iter().all(|length| length > row);
    let common_rows = (0..rows).take_while(in_all_lanes).count();
    let full_rows = common_rows.max(rows.saturating_sub(MAX_TAIL_ROWS));
    let word = |lane: usize, row: usize| streams[lane].get(row).copied().unwrap_or(0);
    let tail_row = |row| {
        let lanes = (0..LANES).filter(|&lane| stored[lane] > row);
        lanes.map(|lane| word(lane, row)).collect::<Vec<_>>()
    };
    StoredRows {
        full: (0..full_rows * LANES).map(|i| word(i % LANES, i / LANES)).collect(),
        tail_rows: rows - full_rows,
        tail_lengths: stored.iter().map(|length| length.saturating_sub(full_rows)).collect(),
        tails: (full_rows..rows).flat_map(tail_row).collect(),
    }
}

/// Returns the record and the payload of a tile. It is raw if there is a `raw_tile` that takes no more lines. Returns
/// `None` if there are more exceptions than a tile can list.
pub(super) fn write_payload(
    slabs: &[CodedSlab],
    groups: &[u8],
    raw_tile: Option<Vec<u8>>,
) -> Option<(TileEntry, Vec<u8>)> {
    let mut entry = TileEntry { kind: TileKind::Coded as u8, ..TileEntry::default() };
    let (mut raw, mut full, mut lengths) = (vec![], vec![], vec![]);
    let (mut tails, mut exceptions) = (vec![], vec![]);
    for (slab, coded) in slabs.iter().enumerate() {
        let rows = store_rows(&coded.streams);
        entry.full_rows[slab] = (rows.full.len() / LANES) as u8;
        entry.tail_rows[slab] = rows.tail_rows as u8;
        entry.tail_start[slab] = tails.len() as u16;
        entry.exception_start[slab] = exceptions.len() as u16;
        raw.extend_from_slice(&coded.raw);
        full.extend(rows.full);
        lengths.extend(rows.tail_lengths.chunks(2).map(|pair| (pair[0] | pair[1] << 4) as u8));
        tails.extend(rows.tails);
        exceptions.extend_from_slice(&coded.exceptions);
    }
    let count = exceptions.len();
    let bytes = |words: Vec<u32>| words.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
    let (raw, full, tails, exceptions) = (bytes(raw), bytes(full), bytes(tails), bytes(exceptions));
    let mut payload = [&lengths, &raw, groups, &full, &exceptions, &tails].concat();
    let lines = payload.len().div_ceil(LINE);
    match raw_tile.filter(|raw_tile| lines >= raw_tile.len().div_ceil(LINE)) {
        Some(raw_tile) => (entry, payload) = (TileEntry::default(), raw_tile),
        None => entry.exceptions = count.try_into().ok()?,
    }
    payload.resize(payload.len().next_multiple_of(LINE), 0);
    entry.lines = (payload.len() / LINE) as u16;
    entry.crc = crc32c::crc32c(&payload);
    Some((entry, payload))
}
