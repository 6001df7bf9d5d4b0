//! trial
fn main() {
    for path in std::env::args().skip(1) {
        let data = std::fs::read(&path).unwrap();
        let t = std::time::Instant::now();
        let elf = buftrace::discover::elf::Elf::parse(&data).unwrap();
        println!("## {path} mentions {}", elf.mentions("_ZN2tt8tt_metal12GraphTracker14track_allocateEPKNS0_6BufferE"));
        match buftrace::discover::layout::derive(&elf) {
            Ok(d) => { for f in &d.findings { println!("   {f}"); } println!("   {:#x} {:#x} {}", d.chip_vtable, d.mesh_vtable, d.generation) }
            Err(e) => println!("   {e:#}"),
        }
        println!("   {:?}", t.elapsed());
    }
}
