// SPDX-License-Identifier: Apache-2.0
//! The sections of an ELF file that unwinding reads.

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, EhFrameOffset, ParsedEhFrameHdr, Pointer, Reader};
use object::{Object, ObjectSection as _};

/// How linkers write an index: the section is found relative to the index, the number of entries is in four bytes, and
/// so are an entry's two, relative to the index (Linux Standard Base, "DWARF Extensions"). Others are not gone by.
const USUAL: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// `.eh_frame` with what belongs to it.
pub(super) struct Sections<R: Reader> {
    /// The call frame information.
    pub(super) eh_frame: EhFrame<R>,
    /// Bytes of that.
    pub(super) size: usize,
    /// `.eh_frame_hdr`, if it has a table to search.
    pub(super) index: Option<ParsedEhFrameHdr<R>>,
    /// The sections' addresses.
    pub(super) bases: BaseAddresses,
}

impl<R: Reader> Sections<R> {
    /// Finds the sections; `None` if there is no `.eh_frame`.
    pub(super) fn of<'d>(file: &impl Object<'d>, reader: impl Fn(&'d [u8]) -> R) -> Option<Self> {
        let section = |name: &str| {
            let section = file.section_by_name(name)?;
            Some((section.address(), section.data().ok()?))
        };
        let (address, data) = section(".eh_frame").filter(|(_, data)| !data.is_empty())?;
        let mut bases = BaseAddresses::default().set_eh_frame(address);
        for (name, set) in [
            (".text", BaseAddresses::set_text as fn(BaseAddresses, u64) -> BaseAddresses),
            (".got", BaseAddresses::set_got),
        ] {
            if let Some(section) = file.section_by_name(name) {
                bases = set(bases, section.address());
            }
        }
        let mut index = None;
        if let Some((address, data)) = section(".eh_frame_hdr") {
            bases = bases.set_eh_frame_hdr(address);
            let parsed = || EhFrameHdr::from(reader(data)).parse(&bases, 8).ok();
            index = is_usual(data).then(parsed).flatten().filter(|header| header.table().is_some());
        }
        let mut eh_frame = EhFrame::from(reader(data));
        eh_frame.set_address_size(8);
        Some(Self { eh_frame, size: data.len(), index, bases })
    }

    /// Where in `.eh_frame` an entry of the index leads.
    pub(super) fn offset(&self, entry: Pointer) -> gimli::Result<EhFrameOffset> {
        let start = self.bases.eh_frame.section.unwrap_or_default();
        let offset = entry.direct()?.checked_sub(start).and_then(|offset| usize::try_from(offset).ok());
        offset.map(EhFrameOffset).ok_or(gimli::Error::UnsupportedOffset)
    }
}

/// Whether an index is as linkers write it, and as long as it says.
fn is_usual(index: &[u8]) -> bool {
    let Some((&[a, b, c, d, _, _, _, _, ref count @ ..], entries)) = index.split_first_chunk::<12>() else {
        return false;
    };
    let count = u32::from_le_bytes(*count);
    [a, b, c, d] == USUAL && u64::from(count) * 8 <= entries.len() as u64
}
