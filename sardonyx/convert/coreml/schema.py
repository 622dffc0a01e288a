"""The protobuf messages of CoreML models, after `mlmodel/format/*.proto` (apple/coremltools), fields that are used."""

from sardonyx.convert.coreml.schema_layers import LAYERS
from sardonyx.convert.reading.protobuf import Schema

_MODEL = """
message Model {
  int32 specificationVersion = 1; ModelDescription description = 2; PipelineClassifier pipelineClassifier = 200;
  PipelineRegressor pipelineRegressor = 201; Pipeline pipeline = 202; GLMRegressor glmRegressor = 300;
  SupportVectorRegressor supportVectorRegressor = 301; TreeEnsembleRegressor treeEnsembleRegressor = 302;
  NeuralNetworkRegressor neuralNetworkRegressor = 303; GLMClassifier glmClassifier = 400;
  SupportVectorClassifier supportVectorClassifier = 401; TreeEnsembleClassifier treeEnsembleClassifier = 402;
  NeuralNetworkClassifier neuralNetworkClassifier = 403; NeuralNetwork neuralNetwork = 500;
  Program mlProgram = 502; OneHotEncoder oneHotEncoder = 600; Imputer imputer = 601;
  FeatureVectorizer featureVectorizer = 602; DictVectorizer dictVectorizer = 603; Scaler scaler = 604;
  CategoricalMapping categoricalMapping = 606; Normalizer normalizer = 607;
  ArrayFeatureExtractor arrayFeatureExtractor = 609; NonMaximumSuppression nonMaximumSuppression = 610;
  Identity identity = 900;
}
message ModelDescription {
  repeated FunctionDescription functions = 20; string defaultFunctionName = 21; Metadata metadata = 100;
  repeated FeatureDescription input = 1; repeated FeatureDescription output = 10;
  repeated FeatureDescription state = 13; string predictedFeatureName = 11;
  string predictedProbabilitiesName = 12; repeated FeatureDescription trainingInput = 50;
}
message PipelineClassifier { Pipeline pipeline = 1; }
message PipelineRegressor { Pipeline pipeline = 1; }
message Pipeline { repeated Model models = 1; repeated string names = 2; }
message GLMRegressor {
  enum PostEvaluationTransform { NoTransform = 0; Logit = 1; Probit = 2; }
  message DoubleArray { repeated double value = 1; }
  repeated GLMRegressor.DoubleArray weights = 1; repeated double offset = 2;
  GLMRegressor.PostEvaluationTransform postEvaluationTransform = 3;
}
message SupportVectorRegressor {
  Kernel kernel = 1; SparseSupportVectors sparseSupportVectors = 2; DenseSupportVectors denseSupportVectors = 3;
  Coefficients coefficients = 4; double rho = 5;
}
message TreeEnsembleRegressor {
  TreeEnsembleParameters treeEnsemble = 1; TreeEnsemblePostEvaluationTransform postEvaluationTransform = 2;
}
message NeuralNetworkRegressor {
  repeated NeuralNetworkLayer layers = 1; repeated NeuralNetworkPreprocessing preprocessing = 2;
  NeuralNetworkMultiArrayShapeMapping arrayInputShapeMapping = 5;
  NeuralNetworkImageShapeMapping imageInputShapeMapping = 6;
}
message GLMClassifier {
  enum PostEvaluationTransform { Logit = 0; Probit = 1; }
  enum ClassEncoding { ReferenceClass = 0; OneVsRest = 1; }
  message DoubleArray { repeated double value = 1; }
  repeated GLMClassifier.DoubleArray weights = 1; repeated double offset = 2;
  GLMClassifier.PostEvaluationTransform postEvaluationTransform = 3;
  GLMClassifier.ClassEncoding classEncoding = 4; StringVector stringClassLabels = 100;
  Int64Vector int64ClassLabels = 101;
}
message SupportVectorClassifier {
  Kernel kernel = 1; repeated int32 numberOfSupportVectorsPerClass = 2;
  SparseSupportVectors sparseSupportVectors = 3; DenseSupportVectors denseSupportVectors = 4;
  repeated Coefficients coefficients = 5; repeated double rho = 6; repeated double probA = 7;
  repeated double probB = 8; StringVector stringClassLabels = 100; Int64Vector int64ClassLabels = 101;
}
message TreeEnsembleClassifier {
  TreeEnsembleParameters treeEnsemble = 1; TreeEnsemblePostEvaluationTransform postEvaluationTransform = 2;
  StringVector stringClassLabels = 100; Int64Vector int64ClassLabels = 101;
}
message NeuralNetworkClassifier {
  repeated NeuralNetworkLayer layers = 1; repeated NeuralNetworkPreprocessing preprocessing = 2;
  NeuralNetworkMultiArrayShapeMapping arrayInputShapeMapping = 5;
  NeuralNetworkImageShapeMapping imageInputShapeMapping = 6; StringVector stringClassLabels = 100;
  Int64Vector int64ClassLabels = 101; string labelProbabilityLayerName = 200;
}
message NeuralNetwork {
  repeated NeuralNetworkLayer layers = 1; repeated NeuralNetworkPreprocessing preprocessing = 2;
  NeuralNetworkMultiArrayShapeMapping arrayInputShapeMapping = 5;
  NeuralNetworkImageShapeMapping imageInputShapeMapping = 6;
}
message Program { int64 version = 1; map<string, Function> functions = 2; map<string, Value> attributes = 4; }
message OneHotEncoder {
  enum HandleUnknown { ErrorOnUnknown = 0; IgnoreUnknown = 1; }
  StringVector stringCategories = 1; Int64Vector int64Categories = 2; bool outputSparse = 10;
  OneHotEncoder.HandleUnknown handleUnknown = 11;
}
message Imputer {
  double imputedDoubleValue = 1; int64 imputedInt64Value = 2; string imputedStringValue = 3;
  DoubleVector imputedDoubleArray = 4; Int64Vector imputedInt64Array = 5;
  StringToDoubleMap imputedStringDictionary = 6; Int64ToDoubleMap imputedInt64Dictionary = 7;
  double replaceDoubleValue = 11; int64 replaceInt64Value = 12; string replaceStringValue = 13;
}
message FeatureVectorizer {
  message InputColumn { string inputColumn = 1; uint64 inputDimensions = 2; }
  repeated FeatureVectorizer.InputColumn inputList = 1;
}
message DictVectorizer { StringVector stringToIndex = 1; Int64Vector int64ToIndex = 2; }
message Scaler { repeated double shiftValue = 1; repeated double scaleValue = 2; }
message CategoricalMapping {
  StringToInt64Map stringToInt64Map = 1; Int64ToStringMap int64ToStringMap = 2; string strValue = 101;
  int64 int64Value = 102;
}
message Normalizer {
  enum NormType { LMax = 0; L1 = 1; L2 = 2; }
  Normalizer.NormType normType = 1;
}
message ArrayFeatureExtractor { repeated uint64 extractIndex = 1; }
message NonMaximumSuppression {
  message PickTop { bool perClass = 1; }
  NonMaximumSuppression.PickTop pickTop = 1; StringVector stringClassLabels = 100;
  Int64Vector int64ClassLabels = 101; double iouThreshold = 110; double confidenceThreshold = 111;
  string confidenceInputFeatureName = 200; string coordinatesInputFeatureName = 201;
  string iouThresholdInputFeatureName = 202; string confidenceThresholdInputFeatureName = 203;
  string confidenceOutputFeatureName = 210; string coordinatesOutputFeatureName = 211;
}
message Identity { }
message FunctionDescription {
  string name = 1; repeated FeatureDescription input = 2; repeated FeatureDescription output = 3;
  repeated FeatureDescription state = 6; string predictedFeatureName = 4; string predictedProbabilitiesName = 5;
}
message Metadata {
  string shortDescription = 1; string versionString = 2; string author = 3; string license = 4;
  map<string, string> userDefined = 100;
}
message FeatureDescription { string name = 1; string shortDescription = 2; FeatureType type = 3; }
message Kernel {
  LinearKernel linearKernel = 1; RBFKernel rbfKernel = 2; PolyKernel polyKernel = 3;
  SigmoidKernel sigmoidKernel = 4;
}
message SparseSupportVectors { repeated SparseVector vectors = 1; }
message DenseSupportVectors { repeated DenseVector vectors = 1; }
message Coefficients { repeated double alpha = 1; }
message TreeEnsembleParameters {
  message TreeNode {
    enum TreeNodeBehavior {
      BranchOnValueLessThanEqual = 0; BranchOnValueLessThan = 1; BranchOnValueGreaterThanEqual = 2;
      BranchOnValueGreaterThan = 3; BranchOnValueEqual = 4; BranchOnValueNotEqual = 5; LeafNode = 6;
    }
    message EvaluationInfo { uint64 evaluationIndex = 1; double evaluationValue = 2; }
    uint64 treeId = 1; uint64 nodeId = 2; TreeEnsembleParameters.TreeNode.TreeNodeBehavior nodeBehavior = 3;
    uint64 branchFeatureIndex = 10; double branchFeatureValue = 11; uint64 trueChildNodeId = 12;
    uint64 falseChildNodeId = 13; bool missingValueTracksTrueChild = 14;
    repeated TreeEnsembleParameters.TreeNode.EvaluationInfo evaluationInfo = 20; double relativeHitRate = 30;
  }
  repeated TreeEnsembleParameters.TreeNode nodes = 1; uint64 numPredictionDimensions = 2;
  repeated double basePredictionValue = 3;
}
enum TreeEnsemblePostEvaluationTransform {
  NoTransform = 0; Classification_SoftMax = 1; Regression_Logistic = 2;
  Classification_SoftMaxWithZeroClassReference = 3;
}
message NeuralNetworkPreprocessing {
  string featureName = 1; NeuralNetworkImageScaler scaler = 10; NeuralNetworkMeanImage meanImage = 11;
}
enum NeuralNetworkMultiArrayShapeMapping { RANK5_ARRAY_MAPPING = 0; EXACT_ARRAY_MAPPING = 1; }
enum NeuralNetworkImageShapeMapping { RANK5_IMAGE_MAPPING = 0; RANK4_IMAGE_MAPPING = 1; }
message StringVector { repeated string vector = 1; }
message Int64Vector { repeated int64 vector = 1; }
message Function {
  repeated NamedValueType inputs = 1; string opset = 2; map<string, Block> block_specializations = 3;
  map<string, Value> attributes = 4;
}
message Value {
  message ImmediateValue {
    TensorValue tensor = 1; TupleValue tuple = 2; ListValue list = 3; DictionaryValue dictionary = 4;
  }
  message BlobFileValue { string fileName = 1; uint64 offset = 2; }
  ValueType type = 2; Value.ImmediateValue immediateValue = 3; Value.BlobFileValue blobFileValue = 5;
}
message DoubleVector { repeated bytes vector = 1; }
message StringToDoubleMap { map<string, double> map = 1; }
message Int64ToDoubleMap { map<int64, double> map = 1; }
message StringToInt64Map { map<string, int64> map = 1; }
message Int64ToStringMap { map<int64, string> map = 1; }
message FeatureType {
  Int64FeatureType int64Type = 1; DoubleFeatureType doubleType = 2; StringFeatureType stringType = 3;
  ImageFeatureType imageType = 4; ArrayFeatureType multiArrayType = 5; DictionaryFeatureType dictionaryType = 6;
  SequenceFeatureType sequenceType = 7; StateFeatureType stateType = 8; bool isOptional = 1000;
}
message LinearKernel { }
message RBFKernel { double gamma = 1; }
message PolyKernel { int32 degree = 1; double c = 2; double gamma = 3; }
message SigmoidKernel { double gamma = 1; double c = 2; }
message SparseVector { repeated SparseNode nodes = 1; }
message DenseVector { repeated bytes values = 1; }
message NeuralNetworkImageScaler {
  float channelScale = 10; float blueBias = 20; float greenBias = 21; float redBias = 22; float grayBias = 30;
}
message NeuralNetworkMeanImage { repeated float meanImage = 1; }
message NamedValueType { string name = 1; ValueType type = 2; }
message Block {
  repeated NamedValueType inputs = 1; repeated string outputs = 2; repeated Operation operations = 3;
  map<string, Value> attributes = 4;
}
message TensorValue {
  message RepeatedFloats { repeated float values = 1; }
  message RepeatedDoubles { repeated double values = 1; }
  message RepeatedInts { repeated int32 values = 1; }
  message RepeatedLongInts { repeated int64 values = 1; }
  message RepeatedBools { repeated bool values = 1; }
  message RepeatedStrings { repeated string values = 1; }
  message RepeatedBytes { bytes values = 1; }
  TensorValue.RepeatedFloats floats = 1; TensorValue.RepeatedInts ints = 2; TensorValue.RepeatedBools bools = 3;
  TensorValue.RepeatedStrings strings = 4; TensorValue.RepeatedLongInts longInts = 5;
  TensorValue.RepeatedDoubles doubles = 6; TensorValue.RepeatedBytes bytes = 7;
}
message TupleValue { repeated Value values = 1; }
message ListValue { repeated Value values = 1; }
message DictionaryValue {
  message KeyValuePair { Value key = 1; Value value = 2; }
  repeated DictionaryValue.KeyValuePair values = 1;
}
message ValueType {
  TensorType tensorType = 1; ListType listType = 2; TupleType tupleType = 3; DictionaryType dictionaryType = 4;
  StateType stateType = 5;
}
message Int64FeatureType { }
message DoubleFeatureType { }
message StringFeatureType { }
message ImageFeatureType {
  enum ColorSpace { INVALID_COLOR_SPACE = 0; GRAYSCALE = 10; RGB = 20; BGR = 30; GRAYSCALE_FLOAT16 = 40; }
  message ImageSize { uint64 width = 1; uint64 height = 2; }
  message EnumeratedImageSizes { repeated ImageFeatureType.ImageSize sizes = 1; }
  message ImageSizeRange { SizeRange widthRange = 1; SizeRange heightRange = 2; }
  int64 width = 1; int64 height = 2; ImageFeatureType.EnumeratedImageSizes enumeratedSizes = 21;
  ImageFeatureType.ImageSizeRange imageSizeRange = 31; ImageFeatureType.ColorSpace colorSpace = 3;
}
message ArrayFeatureType {
  enum ArrayDataType {
    INVALID_ARRAY_DATA_TYPE = 0; FLOAT32 = 65568; DOUBLE = 65600; INT32 = 131104; INT8 = 131080; FLOAT16 =
    65552;
  }
  message Shape { repeated int64 shape = 1; }
  message EnumeratedShapes { repeated ArrayFeatureType.Shape shapes = 1; }
  message ShapeRange { repeated SizeRange sizeRanges = 1; }
  repeated int64 shape = 1; ArrayFeatureType.ArrayDataType dataType = 2;
  ArrayFeatureType.EnumeratedShapes enumeratedShapes = 21; ArrayFeatureType.ShapeRange shapeRange = 31;
  int32 intDefaultValue = 41; float floatDefaultValue = 51; double doubleDefaultValue = 61;
}
message DictionaryFeatureType { Int64FeatureType int64KeyType = 1; StringFeatureType stringKeyType = 2; }
message SequenceFeatureType {
  Int64FeatureType int64Type = 1; StringFeatureType stringType = 3; SizeRange sizeRange = 101;
}
message StateFeatureType { ArrayFeatureType arrayType = 1; }
message SparseNode { int32 index = 1; double value = 2; }
message Operation {
  string type = 1; map<string, Argument> inputs = 2; repeated NamedValueType outputs = 3;
  repeated Block blocks = 4; map<string, Value> attributes = 5;
}
message TensorType {
  DataType dataType = 1; int64 rank = 2; repeated Dimension dimensions = 3; map<string, Value> attributes = 4;
}
message ListType { ValueType type = 1; Dimension length = 2; }
message TupleType { repeated ValueType types = 1; }
message DictionaryType { ValueType keyType = 1; ValueType valueType = 2; }
message StateType { ValueType wrappedType = 1; }
message SizeRange { uint64 lowerBound = 1; int64 upperBound = 2; }
message Argument {
  message Binding { string name = 1; Value value = 2; }
  repeated Argument.Binding arguments = 1;
}
enum DataType {
  UNUSED_TYPE = 0; BOOL = 1; STRING = 2; FLOAT8E4M3FN = 40; FLOAT8E5M2 = 41; FLOAT16 = 10; FLOAT32 = 11; FLOAT64
  = 12; BFLOAT16 = 13; INT8 = 21; INT16 = 22; INT32 = 23; INT64 = 24; INT4 = 25; UINT8 = 31; UINT16 = 32; UINT32
  = 33; UINT64 = 34; UINT4 = 35; UINT2 = 36; UINT1 = 37; UINT6 = 38; UINT3 = 39;
}
message Dimension {
  message ConstantDimension { uint64 size = 1; }
  message UnknownDimension { bool variadic = 1; }
  Dimension.ConstantDimension constant = 1; Dimension.UnknownDimension unknown = 2;
}
"""

SCHEMA = Schema("coreml", _MODEL + LAYERS)
