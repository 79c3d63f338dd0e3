#include "measure/row_json.hpp"

#include <concepts>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <vector>

namespace replk::bench {
namespace {

using Json = nlohmann::ordered_json;

template <class T, class Struct>
concept Is = std::same_as<std::remove_const_t<T>, Struct>;

// The one list of the fields of each struct, with the names that they have in JSON, in the order of printing.

template <Is<PeerTime> Peer, class Field>
void each_field(Peer& peer, const Field& field) {
  field("name", peer.name);
  field("implementation", peer.implementation);
  field("ms", peer.ms);
  field("ms_cold", peer.ms_cold);
  field("create_ms", peer.create_ms);
}

template <Is<Visit> V, class Field>
void each_field(V& visit, const Field& field) {
  field("ms", visit.ms);
  field("best_peer_ms", visit.best_peer_ms);
}

template <Is<DepthwiseRow> Row, class Field>
void each_field(Row& row, const Field& field) {
  field("shape", row.shape);
  field("algorithm", row.algorithm);
  field("tiling", row.tiling);
  field("source", row.source);
  field("ms", row.ms);
  field("ms_cold", row.ms_cold);
  field("visits", row.visits);
  field("rounds", row.rounds_ms);
  field("peers", row.peers);
  field("best_peer", row.best_peer);
  field("best_peer_ms", row.best_peer_ms);
  field("best_peer_ms_cold", row.best_peer_ms_cold);
  field("ratio", row.ratio);
  field("max_relative_error", row.max_relative_error);
  field("max_of_allowed", row.max_of_allowed);
  field("checked_outputs", row.checked_outputs);
  field("threads", row.threads);
  field("peak_gflops", row.peak_gflops);
  field("useful_gflops", row.useful_gflops);
  field("percent_of_peak", row.percent_of_peak);
  field("percent_of_limit", row.percent_of_limit);
  field("multiply_adds", row.fma);
  field("additions", row.add);
  field("create_ms", row.create_ms);
  field("create_again_ms", row.create_again_ms);
  field("set_weights_ms", row.set_weights_ms);
  field("bytes_moved", row.bytes_moved);
  field("workspace_bytes", row.workspace_bytes);
  field("prepared_bytes", row.prepared_bytes);
  field("note", row.note);
}

template <class T>
concept HasFields = requires(T& value) {
  each_field(value, [](const char*, auto&) {});
};

template <class T>
Json written(const T& value) {
  return value;
}
template <HasFields T>
Json written(const T& value);
template <class T>
Json written(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}
template <HasFields T>
Json written(const std::vector<T>& values) {
  Json all = Json::array();
  for (const T& value : values) all.push_back(written(value));
  return all;
}
template <HasFields T>
Json written(const T& value) {
  Json all;
  each_field(value, [&](const char* name, const auto& member) { all[name] = written(member); });
  return all;
}

template <class T>
void read(const Json& from, T& to) {
  from.get_to(to);
}
template <HasFields T>
void read(const Json& from, T& to);
template <class T>
void read(const Json& from, std::optional<T>& to) {
  to = from.is_null() ? std::nullopt : std::optional(from.get<T>());
}
template <HasFields T>
void read(const Json& from, std::vector<T>& to) {
  to.resize(from.size());
  for (std::size_t i = 0; i < to.size(); i++) read(from.at(i), to[i]);
}
template <HasFields T>
void read(const Json& from, T& to) {
  each_field(to, [&](const char* name, auto& member) { read(from.at(name), member); });
}

}  // namespace

Json to_json(const DepthwiseRow& row) {
  return written(row);
}

DepthwiseRow row_from_json(const Json& json) {
  DepthwiseRow row;
  read(json, row);
  return row;
}

}  // namespace replk::bench
