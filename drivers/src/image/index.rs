//! Index of a partition's objects, in memory: 8 bytes per object, 8 more per filemark.

use super::frame::ObjectType;
use crate::medium::{SpaceOutcome, SpaceStop};

/// Frame offsets are multiples of 8: the lowest bit is free to tell a filemark.
const FILEMARK_BIT: u64 = 1;

/// Where each object of a partition stands in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ObjectIndex {
    objects: Vec<u64>,
    /// Object numbers of the filemarks, ascending.
    filemarks: Vec<u64>,
    /// File offset behind the last object.
    end: u64,
}

impl ObjectIndex {
    /// An empty partition whose first frame will stand at `base`.
    pub(super) fn new(base: u64) -> Self {
        Self { objects: Vec::new(), filemarks: Vec::new(), end: base }
    }

    /// Adds the object at the end.
    pub(super) fn push(&mut self, object_type: ObjectType, frame_bytes: u64) {
        debug_assert!(self.end.is_multiple_of(8) && frame_bytes.is_multiple_of(8));
        match object_type {
            ObjectType::Block => self.objects.push(self.end),
            ObjectType::Filemark => {
                self.filemarks.push(self.len());
                self.objects.push(self.end | FILEMARK_BIT);
            }
        }
        self.end += frame_bytes;
    }

    /// Forgets everything from `object` on.
    pub(super) fn truncate(&mut self, object: u64) {
        if object < self.len() {
            self.end = self.offset(object);
            self.objects.truncate(object as usize);
            self.filemarks.truncate(self.filemarks_before(object) as usize);
        }
    }

    /// Number of objects: the object number of the end of data.
    pub(super) fn len(&self) -> u64 {
        self.objects.len() as u64
    }

    /// File offset behind the last object.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// File offset of an object, or of the end of data for any number from there on.
    pub(super) fn offset(&self, object: u64) -> u64 {
        self.objects.get(object as usize).map_or(self.end, |entry| entry & !FILEMARK_BIT)
    }

    /// Type of an object, `None` from the end of data on.
    pub(super) fn object_type(&self, object: u64) -> Option<ObjectType> {
        let entry = self.objects.get(object as usize)?;
        Some(if entry & FILEMARK_BIT == 0 { ObjectType::Block } else { ObjectType::Filemark })
    }

    /// How many filemarks have a lower number than `object`.
    pub(super) fn filemarks_before(&self, object: u64) -> u64 {
        self.filemarks.partition_point(|filemark| *filemark < object) as u64
    }

    /// SPACE over blocks from `from`: where it ends, and what it reports.
    pub(super) fn space_blocks(&self, from: u64, count: i64) -> (u64, SpaceOutcome) {
        let wanted = count.unsigned_abs();
        let passed_filemarks = self.filemarks_before(from) as usize;
        let (reachable, stop, stopped_at) = if count >= 0 {
            match self.filemarks.get(passed_filemarks) {
                Some(filemark) => (filemark - from, SpaceStop::Filemark, filemark + 1),
                None => (self.len() - from, SpaceStop::EndOfData, self.len()),
            }
        } else {
            match passed_filemarks.checked_sub(1).and_then(|last| self.filemarks.get(last)) {
                Some(filemark) => (from - filemark - 1, SpaceStop::Filemark, *filemark),
                None => (from, SpaceStop::BeginningOfPartition, 0),
            }
        };
        if wanted > reachable {
            return (stopped_at, SpaceOutcome { stopped: Some((stop, wanted - reachable)) });
        }
        (if count >= 0 { from + wanted } else { from - wanted }, SpaceOutcome { stopped: None })
    }

    /// SPACE over filemarks from `from`: where it ends, and what it reports.
    pub(super) fn space_filemarks(&self, from: u64, count: i64) -> (u64, SpaceOutcome) {
        let wanted = count.unsigned_abs();
        let passed = self.filemarks_before(from);
        let (reachable, stop, stopped_at) = if count >= 0 {
            (self.filemarks.len() as u64 - passed, SpaceStop::EndOfData, self.len())
        } else {
            (passed, SpaceStop::BeginningOfPartition, 0)
        };
        if wanted > reachable {
            return (stopped_at, SpaceOutcome { stopped: Some((stop, wanted - reachable)) });
        }
        let to = match count {
            0 => from,
            1.. => self.filemarks[(passed + wanted - 1) as usize] + 1,
            _ => self.filemarks[(passed - wanted) as usize],
        };
        (to, SpaceOutcome { stopped: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// block block filemark block filemark filemark
    fn index() -> ObjectIndex {
        let mut index = ObjectIndex::new(1000);
        for letter in "bbfbff".chars() {
            match letter {
                'b' => index.push(ObjectType::Block, 64),
                _ => index.push(ObjectType::Filemark, 48),
            }
        }
        index
    }

    fn outcome(stopped: Option<(SpaceStop, u64)>) -> SpaceOutcome {
        SpaceOutcome { stopped }
    }

    #[test]
    fn knows_offsets_types_and_filemarks() {
        let index = index();
        assert_eq!(
            (0..8).map(|n| index.offset(n)).collect::<Vec<_>>(),
            [1000, 1064, 1128, 1176, 1240, 1288, 1336, 1336]
        );
        assert_eq!((0..7).map(|n| index.filemarks_before(n)).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 2, 3]);
        assert_eq!((index.object_type(2), index.object_type(6)), (Some(ObjectType::Filemark), None));
    }

    #[test]
    fn truncating_is_never_having_written() {
        for keep in 0..=6 {
            let mut index = index();
            index.truncate(keep);
            assert_eq!(index.len(), keep);
            for letter in "bbfbff".chars().skip(keep as usize) {
                match letter {
                    'b' => index.push(ObjectType::Block, 64),
                    _ => index.push(ObjectType::Filemark, 48),
                }
            }
            assert_eq!(index, self::index(), "kept {keep}");
        }
    }

    #[test]
    fn spaces_over_blocks() {
        let index = index();
        assert_eq!(index.space_blocks(0, 2), (2, outcome(None)));
        assert_eq!(index.space_blocks(0, 3), (3, outcome(Some((SpaceStop::Filemark, 1)))));
        assert_eq!(index.space_blocks(6, 1), (6, outcome(Some((SpaceStop::EndOfData, 1)))));
        assert_eq!(index.space_blocks(4, -1), (3, outcome(None)));
        assert_eq!(index.space_blocks(4, -2), (2, outcome(Some((SpaceStop::Filemark, 1)))));
        assert_eq!(index.space_blocks(2, -5), (0, outcome(Some((SpaceStop::BeginningOfPartition, 3)))));
        assert_eq!(
            index.space_blocks(2, i64::MIN),
            (0, outcome(Some((SpaceStop::BeginningOfPartition, (1 << 63) - 2))))
        );
        assert_eq!(index.space_blocks(2, 0), (2, outcome(None)));
    }

    #[test]
    fn spaces_over_filemarks() {
        let index = index();
        assert_eq!(index.space_filemarks(0, 1), (3, outcome(None)));
        assert_eq!(index.space_filemarks(3, 2), (6, outcome(None)));
        assert_eq!(index.space_filemarks(3, 3), (6, outcome(Some((SpaceStop::EndOfData, 1)))));
        assert_eq!(index.space_filemarks(6, -1), (5, outcome(None)));
        assert_eq!(index.space_filemarks(3, -1), (2, outcome(None)));
        assert_eq!(index.space_filemarks(2, -1), (0, outcome(Some((SpaceStop::BeginningOfPartition, 1)))));
        assert_eq!(index.space_filemarks(4, 0), (4, outcome(None)));
    }
}
