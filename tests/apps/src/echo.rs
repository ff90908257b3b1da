// SPDX-License-Identifier: Apache-2.0
// echo HOST PORT TEXT: std::net on both ends, a thread a connection, vectored writes.
use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = a[2].parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for s in listener.incoming() {
            let mut s = s.unwrap();
            thread::spawn(move || {
                let mut out = s.try_clone().unwrap();
                std::io::copy(&mut s, &mut out).unwrap();
                out.shutdown(Shutdown::Write).unwrap();
            });
        }
    });
    let all: Vec<_> = (0..10)
        .map(|_| {
            let (host, text) = (a[1].clone(), a[3].clone());
            thread::spawn(move || {
                let mut s = TcpStream::connect((host.as_str(), port)).unwrap();
                let mut r = s.try_clone().unwrap();
                let want = text.repeat(4000);
                let w = want.clone();
                let t = thread::spawn(move || {
                    let b = w.as_bytes();
                    let mut at = 0;
                    while at < b.len() {
                        let mid = (at + 1000).min(b.len());
                        let end = (at + 5000).min(b.len());
                        at += s.write_vectored(&[IoSlice::new(&b[at..mid]), IoSlice::new(&b[mid..end])]).unwrap();
                    }
                    s.shutdown(Shutdown::Write).unwrap();
                });
                let mut got = String::new();
                r.read_to_string(&mut got).unwrap();
                t.join().unwrap();
                assert!(got == want);
            })
        })
        .collect();
    for t in all {
        t.join().unwrap();
    }
}
