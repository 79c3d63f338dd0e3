#include "jit/program/registers.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "core/error.hpp"

namespace replk::jit {
namespace {

constexpr int never = std::numeric_limits<int>::max();

class Assigner {
 public:
  Assigner(const Listing& list, const RegisterOptions& options)
      : list_(list), options_(options), values_(list.sources.size()), holder_(options.registers, -1) {
    for (std::size_t i = 0; i < list.steps.size(); i++) {
      const Step& s = list.steps[i];
      for (int operand : s.in)
        if (operand >= 0 &&
            (values_[operand].uses.empty() || values_[operand].uses.back() != static_cast<int>(i)))
          values_[operand].uses.push_back(static_cast<int>(i));
    }
    for (std::size_t v = 0; v < values_.size(); v++) {
      const Source& s = list.sources[v];
      if (s.kind == Source::Kind::input) values_[v].home = {Operand::Kind::input, s.stream, s.index, 0};
      if (s.kind == Source::Kind::constant) values_[v].home = {Operand::Kind::constant, 0, 0, s.value};
    }
  }

  Allocation run() {
    for (at_ = 0; at_ < static_cast<int>(list_.steps.size()); at_++) {
      const Step& s = list_.steps[at_];
      pinned_ = 0;
      if (s.op == Op::store)
        store(s);
      else if (is_fused(s.op))
        fused(s);
      else
        plain(s);
      for (int operand : s.in)
        if (operand >= 0) drop_if_dead(operand);
    }
    result_.slots = static_cast<int>(slot_used_.size());
    return std::move(result_);
  }

 private:
  struct Value {
    int reg = -1;
    Operand home;           // where memory holds it, if anywhere
    std::vector<int> uses;  // steps, ascending
    std::size_t next = 0;   // the first of uses not before at_
  };

  int next_use(int v, int from) {
    Value& value = values_[v];
    while (value.next < value.uses.size() && value.uses[value.next] < from) value.next++;
    return value.next < value.uses.size() ? value.uses[value.next] : never;
  }
  bool dies_here(int v) { return next_use_after(v) == never; }
  int next_use_after(int v) {
    next_use(v, at_);
    const Value& value = values_[v];
    std::size_t i = value.next;
    if (i < value.uses.size() && value.uses[i] == at_) i++;
    return i < value.uses.size() ? value.uses[i] : never;
  }
  int uses_within_window(int v) {
    const Value& value = values_[v];
    next_use(v, at_);
    int count = 0;
    for (std::size_t i = value.next; i < value.uses.size() && value.uses[i] <= at_ + options_.window; i++)
      if (value.uses[i] > at_) count++;
    return count;
  }

  static Operand reg(int r) { return {Operand::Kind::reg, 0, r, 0}; }
  void pin(int r) { pinned_ |= 1u << r; }
  bool is_pinned(int r) const { return pinned_ >> r & 1; }

  void emit(const Instruction& i) {
    result_.instructions.push_back(i);
    Counts& c = result_.counts;
    c.instructions++;
    for (const Operand* o : {&i.a, &i.b, &i.c}) c.loads += o->in_memory();
    if (i.load) return;
    if (i.op == Op::store) c.stores++;
    if (i.op == Op::mul || is_fused(i.op)) c.multiplies++;
    if (i.op == Op::add || i.op == Op::sub) c.adds++;
  }

  void place(int v, int r) {
    values_[v].reg = r;
    holder_[r] = v;
  }
  void drop_if_dead(int v) {
    Value& value = values_[v];
    if (!dies_here(v)) return;
    if (value.reg >= 0) {
      holder_[value.reg] = -1;
      value.reg = -1;
    }
    if (value.home.kind == Operand::Kind::slot) {
      slot_used_[value.home.index] = false;
      value.home = {};
    }
  }

  /// A register for a new value. Not one that is pinned.
  int acquire() {
    int best = -1;
    std::int64_t best_score = -1;
    for (int r = 0; r < options_.registers; r++) {
      if (is_pinned(r)) continue;
      const int v = holder_[r];
      if (v < 0) return r;
      // Giving up what must be written costs a store and a load, what memory holds only a load.
      const std::int64_t distance = next_use(v, at_) - at_;
      const std::int64_t score = values_[v].home.in_memory() ? 3 * distance : 2 * distance;
      if (score > best_score) {
        best = r;
        best_score = score;
      }
    }
    if (best < 0) core::fail(core::Status::internal, "no register left of {}", options_.registers);
    evict(best);
    return best;
  }

  void evict(int r) {
    Value& value = values_[holder_[r]];
    if (!value.home.in_memory()) {
      value.home = {Operand::Kind::slot, 0, free_slot(), 0};
      Instruction spill;
      spill.op = Op::store;
      spill.result = value.home;
      spill.a = reg(r);
      emit(spill);
    }
    value.reg = -1;
    holder_[r] = -1;
  }

  int free_slot() {
    const auto place = std::find(slot_used_.begin(), slot_used_.end(), false);
    if (place != slot_used_.end()) {
      *place = true;
      return static_cast<int>(place - slot_used_.begin());
    }
    slot_used_.push_back(true);
    return static_cast<int>(slot_used_.size()) - 1;
  }

  /// Brings v into a register and pins it.
  int into_register(int v) {
    Value& value = values_[v];
    if (value.reg < 0) {
      const int r = acquire();
      move(r, value.home);
      place(v, r);
    }
    pin(value.reg);
    return value.reg;
  }
  void move(int r, const Operand& from) {
    Instruction load;
    load.op = Op::store;
    load.load = true;
    load.result = reg(r);
    load.a = from;
    emit(load);
  }

  bool converted(int v) const {
    const Operand& home = values_[v].home;
    return home.kind == Operand::Kind::input && (options_.converted_inputs >> home.stream & 1);
  }
  /// Whether an operand in memory deserves a register from now on.
  bool worth_a_register(int v) {
    if (uses_within_window(v) == 0) return false;
    const int mine = next_use_after(v);
    for (int r = 0; r < options_.registers; r++) {
      const int other = holder_[r];
      if (is_pinned(r)) continue;
      if (other < 0) return true;
      if (values_[other].home.in_memory() && next_use(other, at_) > mine) return true;
    }
    return false;
  }

  Operand where(int v) const { return values_[v].reg >= 0 ? reg(values_[v].reg) : values_[v].home; }

  /// Leaves at most one of the operands (with the mask's permission, a bit for each) in memory.
  void settle(std::initializer_list<int> operands, unsigned may_stay) {
    for (int v : operands)
      if (v >= 0 && values_[v].reg >= 0) pin(values_[v].reg);
    int stays = -1, position = 0;
    for (int v : operands) {
      if (v >= 0 && values_[v].reg < 0 && stays < 0 && (may_stay >> position & 1) &&
          std::count(operands.begin(), operands.end(), v) == 1 && !converted(v) && !worth_a_register(v))
        stays = v;
      position++;
    }
    for (int v : operands)
      if (v >= 0 && v != stays) into_register(v);
  }

  void store(const Step& s) {
    const int r = into_register(s.in[0]);
    Instruction out;
    out.op = Op::store;
    out.result = {Operand::Kind::output, s.stream, s.index, 0};
    out.a = reg(r);
    emit(out);
    if (!values_[s.in[0]].home.in_memory() && (options_.readable_outputs >> s.stream & 1))
      values_[s.in[0]].home = out.result;
  }

  void plain(const Step& s) {
    Instruction i;
    i.op = s.op;
    const auto [a, b, none] = s.in;
    if (a >= 0) {
      const bool commutes = s.op == Op::add || s.op == Op::mul;
      settle({a, b}, commutes ? 3 : 2);
      i.a = where(a);
      if (b >= 0) i.b = where(b);
      if (i.a.in_memory()) std::swap(i.a, i.b);
    }
    finish(s, i);
  }

  /// A fused operation overwrites one of its operands: one that is not needed any more, or a copy.
  void fused(const Step& s) {
    const auto once = [&](int v) { return std::count(s.in.begin(), s.in.end(), v) == 1; };
    int overwritten = -1;  // by preference the sum: that form takes the two factors in either place
    for (int v : s.in) {
      if (values_[v].reg < 0) continue;
      pin(values_[v].reg);
      if (dies_here(v) && once(v)) overwritten = v;
    }
    if (overwritten >= 0) {
      settle({s.in[0], s.in[1], s.in[2]}, 7);
      const int r = values_[overwritten].reg;
      values_[overwritten].reg = -1;
      holder_[r] = -1;
      return emit_fused(s, overwritten, r);
    }
    // Loading anew is no dearer than copying a register.
    overwritten = s.in[2];
    for (int v : s.in)
      if (once(v) && values_[v].home.in_memory() &&
          (values_[v].reg < 0 || !values_[overwritten].home.in_memory()))
        overwritten = v;
    std::array<int, 3> others{-1, -1, -1};
    for (int i = 0; i < 3; i++)
      if (s.in[i] != overwritten) others[i] = s.in[i];
    settle({others[0], others[1], others[2]}, 7);
    const int r = acquire();
    pin(r);
    move(r, values_[overwritten].home.in_memory() ? values_[overwritten].home : where(overwritten));
    emit_fused(s, overwritten, r);
  }

  /// `overwritten` has its value in register r, which receives the result.
  void emit_fused(const Step& s, int overwritten, int r) {
    const auto operand = [&](int v) { return v == overwritten ? reg(r) : where(v); };
    Instruction i;
    i.op = s.op;
    i.a = operand(s.in[0]);
    i.b = operand(s.in[1]);
    i.c = operand(s.in[2]);
    i.result = reg(r);
    place(s.result, r);
    emit(i);
  }

  void finish(const Step& s, Instruction& i) {
    // The register of a dying operand is free for the result.
    int r = -1;
    for (int v : s.in)
      if (v >= 0 && values_[v].reg >= 0 && dies_here(v)) r = values_[v].reg;
    if (r >= 0) {
      values_[holder_[r]].reg = -1;
    } else {
      r = acquire();
    }
    i.result = reg(r);
    place(s.result, r);
    emit(i);
  }

  const Listing& list_;
  const RegisterOptions options_;
  std::vector<Value> values_;
  std::vector<int> holder_;  // the value in each register, or -1
  std::vector<bool> slot_used_;
  std::uint32_t pinned_ = 0;
  int at_ = 0;
  Allocation result_;
};

}  // namespace

Allocation assign_registers(const Listing& list, const RegisterOptions& options) {
  return Assigner(list, options).run();
}

}  // namespace replk::jit
