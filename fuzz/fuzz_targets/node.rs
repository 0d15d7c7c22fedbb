#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rivven_fuzz::node(bytes);
});
