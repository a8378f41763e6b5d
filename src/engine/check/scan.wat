;; The inner loops of a check. scanLoops.ts has the same in JavaScript, and says what each function does; the two are tested against
;; each other.
;;
;; A map is an array of pairs of 32-bit words, one pair for 32 host clusters: bit i of the first word says that the cluster's refcount
;; on the disk is exactly one, bit i of the second that something refers to the cluster.
(module
  (import "check" "memory" (memory 1))

  ;; Set once for a window of host clusters (configure).
  (global $map (mut i32) (i32.const 0))
  (global $slow (mut i32) (i32.const 0))
  (global $clusterBits (mut i64) (i64.const 0))
  (global $clusterSize (mut i64) (i64.const 0))
  (global $offsetMask (mut i64) (i64.const 0))
  (global $oddMask (mut i64) (i64.const 0))
  (global $compressed (mut i64) (i64.const 0))
  (global $first (mut i64) (i64.const 0))
  (global $length (mut i64) (i64.const 0))
  (global $clusters (mut i64) (i64.const 0))
  (global $order (mut v128) (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))

  ;; Where the table's previous cluster ended; nothing is expected before its first cluster (begin).
  (global $follows (mut i64) (i64.const 0))
  (global $some (mut i32) (i32.const 0))

  (global $allocated (export "allocated") (mut i32) (i32.const 0))
  (global $fragmented (export "fragmented") (mut i32) (i32.const 0))

  (func (export "configure")
    (param $mapAt i32) (param $slowAt i32) (param $bits i32) (param $littleEndian i32)
    (param $firstCluster f64) (param $windowLength f64) (param $fileClusters f64)
    (global.set $map (local.get $mapAt))
    (global.set $slow (local.get $slowAt))
    (global.set $clusterBits (i64.extend_i32_u (local.get $bits)))
    (global.set $clusterSize (i64.shl (i64.const 1) (i64.extend_i32_u (local.get $bits))))
    (global.set $first (i64.trunc_f64_u (local.get $firstCluster)))
    (global.set $length (i64.trunc_f64_u (local.get $windowLength)))
    (global.set $clusters (i64.trunc_f64_u (local.get $fileClusters)))
    (if (local.get $littleEndian)
      (then
        ;; QED: an entry is an offset and nothing else.
        (global.set $order (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))
        (global.set $offsetMask (i64.const -1))
        (global.set $compressed (i64.const 0))
        (global.set $oddMask (i64.sub (global.get $clusterSize) (i64.const 1))))
      (else
        (global.set $order (v128.const i8x16 7 6 5 4 3 2 1 0 15 14 13 12 11 10 9 8))
        (global.set $offsetMask (i64.const 0x00fffffffffffe00))
        (global.set $compressed (i64.const 0x4000000000000000))
        ;; Reserved bits, and offset bits below a cluster; bit 0 (reads as zero) is as good as not set.
        (global.set $oddMask
          (i64.or
            (i64.const 0x3f000000000001fe)
            (i64.and (i64.sub (global.get $clusterSize) (i64.const 1)) (i64.const -2)))))))

  (func (export "begin")
    (global.set $some (i32.const 0)))

  ;; Marks `count` clusters from `x` on as referred to, if none of them was and all have the refcount that `copied` stands for.
  (func $claimRun (param $x i32) (param $count i32) (param $copied i32) (result i32)
    (local $want i32) (local $at i32) (local $left i32) (local $pair i32) (local $bit i32) (local $taken i32) (local $bits i32) (local $wrong i32)
    (local.set $want (i32.sub (i32.const 0) (local.get $copied)))
    (local.set $at (local.get $x))
    (local.set $left (local.get $count))
    (loop $test
      (local.set $pair (i32.add (global.get $map) (i32.shl (i32.shr_u (local.get $at) (i32.const 5)) (i32.const 3))))
      (local.set $bit (i32.and (local.get $at) (i32.const 31)))
      (local.set $taken (i32.sub (i32.const 32) (local.get $bit)))
      (if (i32.gt_u (local.get $taken) (local.get $left)) (then (local.set $taken (local.get $left))))
      (local.set $bits (i32.shl (i32.shr_u (i32.const -1) (i32.sub (i32.const 32) (local.get $taken))) (local.get $bit)))
      (local.set $wrong
        (i32.or (local.get $wrong)
          (i32.and (local.get $bits)
            (i32.or (i32.load offset=4 (local.get $pair)) (i32.xor (i32.load (local.get $pair)) (local.get $want))))))
      (local.set $at (i32.add (local.get $at) (local.get $taken)))
      (br_if $test (local.tee $left (i32.sub (local.get $left) (local.get $taken)))))
    (if (local.get $wrong) (then (return (i32.const 0))))
    (local.set $at (local.get $x))
    (local.set $left (local.get $count))
    (loop $mark
      (local.set $pair (i32.add (global.get $map) (i32.shl (i32.shr_u (local.get $at) (i32.const 5)) (i32.const 3))))
      (local.set $bit (i32.and (local.get $at) (i32.const 31)))
      (local.set $taken (i32.sub (i32.const 32) (local.get $bit)))
      (if (i32.gt_u (local.get $taken) (local.get $left)) (then (local.set $taken (local.get $left))))
      (local.set $bits (i32.shl (i32.shr_u (i32.const -1) (i32.sub (i32.const 32) (local.get $taken))) (local.get $bit)))
      (i32.store offset=4 (local.get $pair) (i32.or (i32.load offset=4 (local.get $pair)) (local.get $bits)))
      (local.set $at (i32.add (local.get $at) (local.get $taken)))
      (br_if $mark (local.tee $left (i32.sub (local.get $left) (local.get $taken)))))
    (i32.const 1))

  (func (export "scan") (param $at i32) (param $count i32) (result i32)
    (local $i i32) (local $half i32) (local $slowCount i32)
    (local $two v128) (local $expected v128) (local $step v128) (local $runStep i32) (local $run i32) (local $runStart i32)
    (local $entry i64) (local $offset i64) (local $x64 i64) (local $x i32) (local $pair i32) (local $bits i64) (local $bit i64)
    (local $follows i64) (local $some i32) (local $allocated i32) (local $fragmented i32) (local $q i32)
    (local $pairStep v128) (local $oneStep v128)
    (local.set $follows (global.get $follows))
    (local.set $some (global.get $some))
    (local.set $pairStep (i64x2.splat (i64.shl (global.get $clusterSize) (i64.const 1))))
    (local.set $oneStep
      (i64x2.replace_lane 1 (i64x2.splat (global.get $clusterSize)) (i64.shl (global.get $clusterSize) (i64.const 1))))
    ;; Entries 0 and 1 mean nothing to a check, so that to expect them without a run is safe.
    (local.set $expected (v128.const i64x2 0 1))
    (loop $pairs
      (block $ended
        (block $singly
          (br_if $ended (i32.ge_u (local.get $i) (local.get $count)))
          (local.set $two
            (i8x16.swizzle
              (v128.load (i32.add (local.get $at) (i32.shl (local.get $i) (i32.const 3))))
              (global.get $order)))
          (br_if $singly (i32.eqz (i64x2.all_true (i64x2.eq (local.get $two) (local.get $expected)))))
          (local.set $expected (i64x2.add (local.get $expected) (local.get $step)))
          (local.set $run (i32.add (local.get $run) (local.get $runStep)))
          (local.set $i (i32.add (local.get $i) (i32.const 2)))
          (br $pairs)))
      ;; A run has ended, by another entry or with the entries.
      (if (local.get $run)
        (then
          (local.set $entry (i64x2.extract_lane 0 (local.get $expected)))
          (local.set $allocated (i32.add (local.get $allocated) (local.get $run)))
          (local.set $follows (i64.and (local.get $entry) (global.get $offsetMask)))
          (block $claimed
            (if (i64.le_u (i64.add (i64.extend_i32_u (local.get $runStart)) (i64.extend_i32_u (local.get $run))) (global.get $length))
              (then
                (br_if $claimed
                  (call $claimRun (local.get $runStart) (local.get $run) (i32.wrap_i64 (i64.shr_u (local.get $entry) (i64.const 63)))))))
            (local.set $q (i32.sub (local.get $i) (local.get $run)))
            (loop $each
              (i32.store (i32.add (global.get $slow) (i32.shl (local.get $slowCount) (i32.const 2))) (local.get $q))
              (local.set $slowCount (i32.add (local.get $slowCount) (i32.const 1)))
              (br_if $each (i32.lt_u (local.tee $q (i32.add (local.get $q) (i32.const 1))) (local.get $i)))))
          (local.set $run (i32.const 0))))
      (if (i32.lt_u (local.get $i) (local.get $count))
        (then
          (local.set $half (i32.const 0))
          (loop $lane
            (local.set $expected (v128.const i64x2 0 1))
            (local.set $step (v128.const i64x2 0 0))
            (local.set $runStep (i32.const 0))
            (block $done
              (block $aside
                (local.set $entry (i64x2.extract_lane 0 (local.get $two)))
                (if (i64.le_u (local.get $entry) (i64.const 1))
                  (then
                    (local.set $expected (i64x2.splat (local.get $entry)))
                    (br $done)))
                (local.set $offset (i64.and (local.get $entry) (global.get $offsetMask)))
                (br_if $aside (i64.ne (i64.and (local.get $entry) (global.get $compressed)) (i64.const 0)))
                (br_if $aside (i64.eqz (local.get $offset)))
                (local.set $allocated (i32.add (local.get $allocated) (i32.const 1)))
                (local.set $fragmented
                  (i32.add (local.get $fragmented)
                    (i32.and (local.get $some) (i64.ne (local.get $offset) (local.get $follows)))))
                (local.set $some (i32.const 1))
                (local.set $follows (i64.add (local.get $offset) (global.get $clusterSize)))
                (br_if $aside (i64.ne (i64.and (local.get $entry) (global.get $oddMask)) (i64.const 0)))
                (local.set $offset (i64.shr_u (local.get $offset) (global.get $clusterBits)))
                (local.set $x64 (i64.sub (local.get $offset) (global.get $first)))
                (if (i64.ge_u (local.get $x64) (global.get $length))
                  (then
                    (br_if $done (i64.lt_u (local.get $offset) (global.get $clusters)))
                    (br $aside)))
                (local.set $x (i32.wrap_i64 (local.get $x64)))
                (local.set $pair (i32.add (global.get $map) (i32.shl (i32.shr_u (local.get $x) (i32.const 5)) (i32.const 3))))
                (local.set $bits (i64.load (local.get $pair)))
                (local.set $bit (i64.shl (i64.const 0x100000000) (i64.extend_i32_u (i32.and (local.get $x) (i32.const 31)))))
                (br_if $aside (i64.ne (i64.and (local.get $bits) (local.get $bit)) (i64.const 0)))
                (br_if $aside
                  (i32.xor
                    (i32.wrap_i64 (i64.shr_u (local.get $entry) (i64.const 63)))
                    (i32.and (i32.shr_u (i32.wrap_i64 (local.get $bits)) (local.get $x)) (i32.const 1))))
                (i32.store offset=4 (local.get $pair)
                  (i32.wrap_i64 (i64.shr_u (i64.or (local.get $bits) (local.get $bit)) (i64.const 32))))
                (local.set $expected (i64x2.add (i64x2.splat (local.get $entry)) (local.get $oneStep)))
                (local.set $step (local.get $pairStep))
                (local.set $runStep (i32.const 2))
                (local.set $runStart (i32.add (local.get $x) (i32.const 1)))
                (br $done))
              (i32.store
                (i32.add (global.get $slow) (i32.shl (local.get $slowCount) (i32.const 2)))
                (i32.add (local.get $i) (local.get $half)))
              (local.set $slowCount (i32.add (local.get $slowCount) (i32.const 1))))
            (if (i32.eqz (local.get $half))
              (then
                (local.set $half (i32.const 1))
                (local.set $two (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15 (local.get $two) (local.get $two)))
                (br $lane))))
          (local.set $i (i32.add (local.get $i) (i32.const 2)))
          (br $pairs))))
    (global.set $follows (local.get $follows))
    (global.set $some (local.get $some))
    (global.set $allocated (i32.add (global.get $allocated) (local.get $allocated)))
    (global.set $fragmented (i32.add (global.get $fragmented) (local.get $fragmented)))
    (local.get $slowCount))

  ;; 16-bit refcounts, `bytes` of them (a multiple of 64), into the first words of the map from pair `to` on.
  (func (export "pack16") (param $at i32) (param $bytes i32) (param $to i32) (result i32)
    (local $end i32) (local $pair i32) (local $all v128) (local $a v128) (local $b v128) (local $c v128) (local $d v128) (local $one v128)
    (local.set $one (v128.const i16x8 256 256 256 256 256 256 256 256))
    (local.set $end (i32.add (local.get $at) (local.get $bytes)))
    (local.set $pair (i32.add (global.get $map) (i32.shl (local.get $to) (i32.const 3))))
    (block $packed
      (loop $blocks
        (br_if $packed (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $a (v128.load (local.get $at)))
        (local.set $b (v128.load offset=16 (local.get $at)))
        (local.set $c (v128.load offset=32 (local.get $at)))
        (local.set $d (v128.load offset=48 (local.get $at)))
        (local.set $all
          (v128.or (local.get $all)
            (v128.or (v128.or (local.get $a) (local.get $b)) (v128.or (local.get $c) (local.get $d)))))
        (i32.store (local.get $pair)
          (i32.or
            (i8x16.bitmask
              (i8x16.narrow_i16x8_s (i16x8.eq (local.get $a) (local.get $one)) (i16x8.eq (local.get $b) (local.get $one))))
            (i32.shl
              (i8x16.bitmask
                (i8x16.narrow_i16x8_s (i16x8.eq (local.get $c) (local.get $one)) (i16x8.eq (local.get $d) (local.get $one))))
              (i32.const 16))))
        (local.set $at (i32.add (local.get $at) (i32.const 64)))
        (local.set $pair (i32.add (local.get $pair) (i32.const 8)))
        (br $blocks)))
    (v128.any_true
      (v128.and (local.get $all)
        (v128.const i16x8 0xfeff 0xfeff 0xfeff 0xfeff 0xfeff 0xfeff 0xfeff 0xfeff))))

  ;; The first pair from `from` on whose words differ, `to` where none does before.
  (func (export "nextDifference") (param $from i32) (param $to i32) (result i32)
    (local $two v128) (local $at i32)
    (block $found
      (loop $pairs
        (br_if $found (i32.ge_u (i32.add (local.get $from) (i32.const 1)) (local.get $to)))
        (local.set $two (v128.load (i32.add (global.get $map) (i32.shl (local.get $from) (i32.const 3)))))
        (br_if $found
          (v128.any_true
            (v128.xor
              (local.get $two)
              (i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get $two) (local.get $two)))))
        (local.set $from (i32.add (local.get $from) (i32.const 2)))
        (br $pairs)))
    (block $here
      (loop $singly
        (br_if $here (i32.ge_u (local.get $from) (local.get $to)))
        (local.set $at (i32.add (global.get $map) (i32.shl (local.get $from) (i32.const 3))))
        (br_if $here (i32.ne (i32.load (local.get $at)) (i32.load offset=4 (local.get $at))))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (br $singly)))
    (local.get $from)))
