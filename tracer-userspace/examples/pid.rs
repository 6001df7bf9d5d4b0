//! trial
fn main() {
    let pid = std::env::args().nth(1).unwrap().parse().unwrap();
    let t = std::time::Instant::now();
    match buftrace::discover::Discovery::of(pid) {
        Ok(d) => {
            println!("{:?}", t.elapsed());
            println!("{:?}\n{} {} bias {:#x} {:?}\n{:?}", d.process, d.library().name(), d.library().build_id, d.library().bias, d.library().file, d.problems);
            println!("{:?} {:?} {:x?} {:?}", d.python, d.layout(), d.read_next_unique_id(), d.read_current_test());
            for s in &d.sites { println!("{s:?}"); }
            println!("{} modules", d.modules.len());
        }
        Err(e) => println!("{:?} {e}", t.elapsed()),
    }
}
