"""The mutants: (file, original, changed, what is wrong with it). `original` occurs once in its file. A text that ends with a
semicolon is statements, any other an expression. {} is no statement at all.
"""

MUTANTS = [
    # The vocabulary: masks, tails, the caller's registers.
    ("jit/assembler.cpp", "std::fill_n(mask.begin(), count, 0xffffffffu);",
     "std::fill_n(mask.begin(), std::min(count + 1, 8), 0xffffffffu);", "a tail's load reads one float too many"),
    ("jit/assembler.cpp", "displacement += 16;", "displacement += 12;", "a tail's second piece lies one float too early"),
    ("jit/assembler.cpp", "displacement += 8;", "displacement += 4;", "a tail's last float lies one too early"),
    ("jit/assembler.cpp", "if (count > 0) vextractf128(low, Xbyak::Ymm(v.getIdx()), 1);",
     "if (count > 0) vextractf128(low, Xbyak::Ymm(v.getIdx()), 0);", "the low half of a tail is stored twice"),
    ("jit/assembler.cpp", "if (count == 1) vmovss(ptr[base + displacement], low);",
     "if (count == 1) vmovlps(ptr[base + displacement], low);", "a tail's store writes one float too many"),
    ("jit/assembler.cpp", "for (const Reg64& r : {r15, r14, r13, r12, rbp, rbx}) pop(r);",
     "for (const Reg64& r : {r15, r14, r13, rbp, r12, rbx}) pop(r);", "two of the caller's registers change places"),

    # direct
    ("jit/direct.cpp", "at >= 0 && at < spec.width", "at >= 0 && at <= spec.width", "a tap meets the pixel behind a row"),
    ("jit/direct.cpp", "add_constant(x_, tile.width * spec_.stride_w * spec_.x_pixel_bytes);",
     "add_constant(x_, tile.width * spec_.x_pixel_bytes);", "the next tile's inputs ignore the stride"),
    ("jit/direct.cpp", "spec.out_width / count + (i < wider)",
     "spec.out_width / count + (i <= spec.out_width % count)", "tiles cover one column too many"),
    ("jit/direct.cpp", "if (spec_.residual) add(residual_, argument(offsetof(DirectArguments, dst_block_bytes)));",
     "if (spec_.residual) add(residual_, argument(offsetof(DirectArguments, x_block_bytes)));",
     "the residual's blocks lie as the input's"),
    ("jit/direct.cpp", "add(bias_, vector_bytes());", "{}", "every block has the first one's bias"),
    ("jit/direct.cpp", "load(weight(r), ptr[row_weights_ + (tap - r * spec_.stride_h * taps) * vector_bytes()]);",
     "load(weight(r), ptr[row_weights_ + (tap - r * taps) * vector_bytes()]);", "the weights of lower rows ignore the stride"),
    ("jit/direct.cpp", "vmaxps(value, temporary(0), value);", "vmaxps(value, value, temporary(0));", "ReLU of a NaN is 0"),
    ("jit/direct.cpp", "vaddps(value, value, temporary(0));", "{}", "a tail's residual is not added"),
    ("jit/direct.cpp", "load_part(temporary(0), residual_, at, spec_.channels);",
     "load(temporary(0), ptr[residual_ + at]);", "a tail's residual is read as a whole vector"),
    ("jit/direct.cpp", "store_part(dst_, at, value, spec_.channels);", "store(ptr[dst_ + at], value);",
     "a tail is written as a whole vector"),
    ("jit/direct.cpp", "phases.kinds.empty() || phases.kinds.back() != kind", "phases.kinds.empty()",
     "all rows are thought to meet the same outputs"),
    ("jit/direct.cpp", "static_cast<int>(residual)", "0", "code with and without residual has one name in the cache"),

    # The codelets' numbers
    ("jit/program.cpp", "a.negative_ == b.negative_ ? 2.0 * a : Real()", "2.0 * a", "x - x is 2x"),
    ("jit/program.cpp", "std::round(factor * 0x1p46) * 0x1p-46", "std::round(factor * 0x1p16) * 0x1p-16",
     "constants are rounded to 16 bits"),
    ("jit/program.cpp", "(n.kind == Node::Kind::sum ? v : -v)", "v", "transposed differences are sums"),
    ("jit/dft.cpp", "twiddle(B[k], k, n, true)", "twiddle(B[k], k, n)", "split radix: the third part's twiddles turn wrongly"),
    ("jit/dft.cpp", "x[(m * i + r * j) % n]", "x[(m * i + j) % n]", "Good-Thomas: a wrong input permutation"),
    ("jit/dft.cpp", "out[k] = z[k % r];", "out[k] = z[k / m];", "Good-Thomas: a wrong output permutation"),
    ("jit/dft.cpp", "twiddle(parts[j][k], j * k, n)", "twiddle(parts[j][k], j * k + 1, n)", "Cooley-Tukey: a twiddle index is off by one"),

    # Programs to instructions
    ("jit/lower.cpp", "flipped_[node] = a_negative;", "flipped_[node] = false;", "the sign of a sum of negated values is lost"),
    ("jit/lower.cpp", "f.negative != (second && minus)", "f.negative != minus", "a fused product subtracted on the wrong side"),
    ("jit/lower.cpp", "if (o.negative != flipped_[o.node]) list_.signs[j] = -1;", "{}", "planes stored negated are not told of"),
    ("jit/lower.cpp", "constants_.try_emplace(std::bit_cast<std::uint32_t>(rounded), 0)",
     "constants_.try_emplace(std::bit_cast<std::uint32_t>(rounded) & ~0xffu, 0)", "constants that nearly agree are one"),
    ("jit/registers.cpp", "*place = true;", "{}", "a spill slot in use is given away"),
    ("jit/registers.cpp", "values_[holder_[r]].reg = -1;", "{}", "a result's register is given away with the operand that was in it"),
    ("jit/registers.cpp", "dies_here(v) && once(v)", "once(v)", "a fused operation overwrites a value that is still needed"),
    ("jit/registers.cpp", "commutes ? 3 : 2", "3", "operands of a subtraction change places"),
    ("jit/registers.cpp", "v >= 0 && values_[v].reg >= 0 && dies_here(v)", "v >= 0 && values_[v].reg >= 0",
     "a result takes the register of a value that is still needed"),
    ("jit/registers.cpp", "emit(spill);", "{}", "spilled values are not written"),
    ("jit/codelet.cpp", "return vmaxps(result, vec(zero_register_), first);", "return vmaxps(result, first, vec(zero_register_));",
     "ReLU of a NaN is 0 in transforms"),
    ("jit/codelet.cpp", "return vfmsub231ps(x, y, z);", "return vfmadd231ps(x, y, z);", "one form of a multiply-subtract adds"),
    ("jit/codelet.cpp", "return vfnmadd213ps(x, y, c);", "return vfmadd213ps(x, y, c);", "one form of a negated multiply-add does not negate"),

    # The column pass
    ("jit/toeplitz_product.cpp", "(o % 2 ? y_odd : y_even)", "(o % 2 ? y_even : y_odd)", "Karatsuba: even and odd rows change places"),
    ("jit/toeplitz_product.cpp", "(minuend ? minuend->get() : Real()) - tap->get()", "(minuend ? minuend->get() : Real()) + tap->get()",
     "Karatsuba: the shared taps are added, not subtracted"),
    ("jit/toeplitz_programs.cpp", "i >= spec.first && i < spec.first + spec.inputs", "i >= spec.first && i <= spec.first + spec.inputs",
     "a column is thought one row longer"),
    ("jit/toeplitz.cpp", "add(in_, spec_.plane_stride);", "{}", "Gauss by calls: a wrong plane"),
    ("jit/toeplitz.cpp", "address(o, pushed)", "address(o)", "a called routine's spill slots lie over its return address"),
    ("jit/toeplitz.cpp", "if (!whole_) clear(zeros());", "{}", "products by calls start from what is on the stack"),
    ("jit/toeplitz_programs.cpp", "product.record(outputs, taps.im(), re, at(cross))", "product.record(outputs, taps.re(), re, at(cross))",
     "four products: the wrong weights"),
    ("jit/column_fft.cpp", "wr * z[k1].im + wi * z[k1].re", "wr * z[k1].im - wi * z[k1].re", "the product with the conjugate's imaginary part"),
    ("jit/column_fft.cpp", "2 * std::numbers::pi * i * k2 / n_", "2 * std::numbers::pi * i * (k2 + 1) / n_", "a twiddle index is off by one"),
    ("jit/column_fft.cpp", "cmovl(now_, pairs_);", "{}", "the last chunk is thought full"),

    # The plain product
    ("jit/gemm.cpp", "for (int r = 0; r < spec_.rows; r++) add(a_, a_stride_);",
     "for (int r = 1; r < spec_.rows; r++) add(a_, a_stride_);", "the next tile begins a row early"),
    ("jit/gemm.cpp", "store_part(c_, v * vector_bytes(), accumulator(r, v), count(v));",
     "store(ptr[c_ + v * vector_bytes()], accumulator(r, v));", "a tail is written as a whole vector"),
    ("jit/gemm.cpp", "!spec_.add_c && !spec_.add_residual", "!spec_.add_c", "the residual is not added"),

    # Rows
    ("jit/row_transform.cpp", "inflow[0] = inflow[0] + program.input(bias, 0);", "{}", "no bias"),
    ("jit/row_transform.cpp", "spec.signs[o.index] < 0 ? -plane : plane", "plane", "planes stored negated are taken as they are"),
    ("jit/row_transform.cpp", "vector_registers(isa) - relu", "vector_registers(isa)", "the register that holds zero is given to a value"),

    # Orchestration
    ("lib/depthwise/direct_geometry.cpp", "std::min(p.height, k.height + (t.rows - 1) * p.stride_h)",
     "std::min(p.height, k.height + (t.rows - 1) * p.stride_h - 1)", "the ring holds a row too few"),
    ("lib/depthwise/direct_executor.cpp", "arguments.bias += whole * l.lanes;", "{}", "left-over channels have the first ones' bias"),
    ("lib/depthwise/direct_executor.hpp", "scratch_.bytes * threads", "scratch_.bytes", "threads share one thread's workspace"),
    ("jit/weight_transform.cpp", "(i - spec.shift)", "i", "spectra ignore the shift of the map"),
    ("jit/weight_transform.cpp", "spec.signs[plane] * spec.signs[plane + 1]", "1", "spectra ignore the planes' signs"),
    ("lib/depthwise/segments.cpp",
     "least = std::max({least, s.first + s.ins, last_output + axis_.taps - s.first});",
     "least = std::max({least, s.first + s.ins - 1, last_output + axis_.taps - s.first - 1});",
     "a transform one too short wraps around"),
]
