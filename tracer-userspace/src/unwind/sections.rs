// SPDX-License-Identifier: Apache-2.0
//! The sections of an ELF file that unwinding reads.

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, ParsedEhFrameHdr, Reader};
use object::{Object, ObjectSection as _};

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
            index = EhFrameHdr::from(reader(data)).parse(&bases, 8).ok().filter(|header| header.table().is_some());
        }
        let mut eh_frame = EhFrame::from(reader(data));
        eh_frame.set_address_size(8);
        Some(Self { eh_frame, size: data.len(), index, bases })
    }
}
