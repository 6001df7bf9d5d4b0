// SPDX-License-Identifier: Apache-2.0
//! Every input of the corpus, and a few that break all expectations, through the functions that the fuzzer calls.

use std::{fs, path::Path};

use buftrace_fuzz::TARGETS;

#[test]
fn every_reader_survives_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let mut inputs = 0;
        for input in fs::read_dir(corpus.join(target.name)).expect("a folder for each target") {
            let path = input.expect("an input").path();
            // Shown if the next line panics.
            eprintln!("{}", path.display());
            (target.run)(&fs::read(&path).expect("an input can be read"));
            inputs += 1;
        }
        assert!(inputs > 0, "{} has no inputs", target.name);
    }
    let folders = fs::read_dir(&corpus).expect("the corpus").count();
    assert_eq!(folders, TARGETS.len(), "a folder that is no target's");
}

#[test]
fn every_reader_survives_what_is_nothing() {
    for target in TARGETS {
        for input in [&[][..], &[0], &[0xff; 64], &[0; 4096], &[b'['; 4096], &[b'\n'; 100]] {
            (target.run)(input);
        }
    }
}
