"""The protobuf messages of TensorFlow's files, as far as inference needs them.

After tensorflow/core/framework/*.proto and tensorflow/core/protobuf/{meta_graph, saved_model, saver, tensor_bundle,
saved_object_graph, trackable_object_graph}.proto, with their names and numbers.
"""

from __future__ import annotations

from functools import cache

from sardonyx.convert.reading.protobuf import Schema

TEXT = """
message TensorShapeProto {
  message Dim { int64 size = 1; string name = 2; }
  repeated Dim dim = 2;
  bool unknown_rank = 3;
}
message TensorProto {
  DataType dtype = 1;
  TensorShapeProto tensor_shape = 2;
  bytes tensor_content = 4;
  repeated int32 half_val = 13 [packed];
  repeated float float_val = 5 [packed];
  repeated double double_val = 6 [packed];
  repeated int32 int_val = 7 [packed];
  repeated bytes string_val = 8;
  repeated int64 int64_val = 10 [packed];
  repeated bool bool_val = 11 [packed];
  repeated uint32 uint32_val = 16 [packed];
  repeated uint64 uint64_val = 17 [packed];
}
message NameAttrList { string name = 1; map<string, AttrValue> attr = 2; }
message AttrValue {
  message ListValue {
    repeated bytes s = 2;
    repeated int64 i = 3 [packed];
    repeated float f = 4 [packed];
    repeated bool b = 5 [packed];
    repeated DataType type = 6 [packed];
    repeated TensorShapeProto shape = 7;
    repeated TensorProto tensor = 8;
    repeated NameAttrList func = 9;
  }
  bytes s = 2;
  int64 i = 3;
  float f = 4;
  bool b = 5;
  DataType type = 6;
  TensorShapeProto shape = 7;
  TensorProto tensor = 8;
  ListValue list = 1;
  NameAttrList func = 10;
  string placeholder = 9;
}
message NodeDef {
  string name = 1;
  string op = 2;
  repeated string input = 3;
  string device = 4;
  map<string, AttrValue> attr = 5;
}
message OpDef {
  message ArgDef { string name = 1; DataType type = 3; }
  string name = 1;
  repeated ArgDef input_arg = 2;
  repeated ArgDef output_arg = 3;
}
message FunctionDef {
  OpDef signature = 1;
  repeated NodeDef node_def = 3;
  map<string, string> ret = 4;
}
message FunctionDefLibrary { repeated FunctionDef function = 1; }
message VersionDef { int32 producer = 1; }
message GraphDef {
  repeated NodeDef node = 1;
  FunctionDefLibrary library = 2;
  VersionDef versions = 4;
}
message TensorInfo { string name = 1; DataType dtype = 2; TensorShapeProto tensor_shape = 3; }
message SignatureDef {
  map<string, TensorInfo> inputs = 1;
  map<string, TensorInfo> outputs = 2;
  string method_name = 3;
}
message SaverDef { string filename_tensor_name = 1; string restore_op_name = 3; }
message AssetFileDef { TensorInfo tensor_info = 1; string filename = 2; }
message CollectionDef {
  message NodeList { repeated string value = 1; }
  NodeList node_list = 1;
}
message MetaGraphDef {
  message MetaInfoDef { repeated string tags = 4; string tensorflow_version = 5; }
  MetaInfoDef meta_info_def = 1;
  GraphDef graph_def = 2;
  SaverDef saver_def = 3;
  map<string, CollectionDef> collection_def = 4;
  map<string, SignatureDef> signature_def = 5;
  repeated AssetFileDef asset_file_def = 6;
}
message SavedModel { int64 saved_model_schema_version = 1; repeated MetaGraphDef meta_graphs = 2; }
message BundleHeaderProto { int32 num_shards = 1; int32 endianness = 2; }
message TensorSliceProto {
  message Extent { int64 start = 1; int64 length = 2; }
  repeated Extent extent = 1;
}
message BundleEntryProto {
  DataType dtype = 1;
  TensorShapeProto shape = 2;
  int32 shard_id = 3;
  int64 offset = 4;
  int64 size = 5;
  fixed32 crc32c = 6;
  repeated TensorSliceProto slices = 7;
}
message TrackableObjectGraph {
  message Attribute { string name = 1; string full_name = 2; string checkpoint_key = 3; }
  message Node { repeated Attribute attributes = 2; }
  repeated Node nodes = 1;
}
enum DataType {
  DT_INVALID = 0;
  DT_FLOAT = 1; DT_DOUBLE = 2; DT_INT32 = 3; DT_UINT8 = 4; DT_INT16 = 5; DT_INT8 = 6; DT_STRING = 7;
  DT_COMPLEX64 = 8; DT_INT64 = 9; DT_BOOL = 10; DT_QINT8 = 11; DT_QUINT8 = 12; DT_QINT32 = 13; DT_BFLOAT16 = 14;
  DT_QINT16 = 15; DT_QUINT16 = 16; DT_UINT16 = 17; DT_COMPLEX128 = 18; DT_HALF = 19; DT_RESOURCE = 20;
  DT_VARIANT = 21; DT_UINT32 = 22; DT_UINT64 = 23; DT_FLOAT8_E5M2 = 24; DT_FLOAT8_E4M3FN = 25; DT_INT4 = 29;
  DT_UINT4 = 30;
  DT_FLOAT_REF = 101; DT_DOUBLE_REF = 102; DT_INT32_REF = 103; DT_UINT8_REF = 104; DT_INT16_REF = 105;
  DT_INT8_REF = 106; DT_STRING_REF = 107; DT_COMPLEX64_REF = 108; DT_INT64_REF = 109; DT_BOOL_REF = 110;
  DT_BFLOAT16_REF = 114; DT_UINT16_REF = 117; DT_HALF_REF = 119; DT_RESOURCE_REF = 120; DT_VARIANT_REF = 121;
}
"""


@cache
def schema() -> Schema:
    """TensorFlow's messages."""
    return Schema("tensorflow", TEXT)
