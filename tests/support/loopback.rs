//! A real drive's back end over the virtual drive, in one process: what one says, the other has to understand.

use std::io;
use std::time::Duration;

use sealtape_drivers::scsi::{DataIn, LogicalUnit};
use sealtape_drivers::sg::{Answer, Data, Transport};

/// Carries commands to a unit in the same process.
pub(crate) struct Loopback<U> {
    pub(crate) unit: U,
    pub(crate) commands: u64,
}

impl<U> Loopback<U> {
    pub(crate) fn new(unit: U) -> Self {
        Self { unit, commands: 0 }
    }
}

impl<U: LogicalUnit> Transport for Loopback<U> {
    fn execute(&mut self, cdb: &[u8], data: Data<'_>, _limit: Duration) -> io::Result<Answer> {
        self.commands += 1;
        let (completion, transferred) = match data {
            Data::None => (self.unit.execute(cdb, &[], &mut DataIn::new(&mut [])), 0),
            Data::Out(bytes) => (self.unit.execute(cdb, bytes, &mut DataIn::new(&mut [])), bytes.len()),
            Data::In(buffer) => {
                let mut data_in = DataIn::new(buffer);
                let completion = self.unit.execute(cdb, &[], &mut data_in);
                let filled = data_in.filled();
                (completion, filled)
            }
        };
        Ok(Answer { completion, transferred })
    }

    fn largest_transfer(&self) -> usize {
        4 << 20
    }

    fn name(&self) -> &str {
        "loopback"
    }
}
