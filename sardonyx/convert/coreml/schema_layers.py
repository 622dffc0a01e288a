"""The part of the schema of CoreML models that is about layers of neural networks.

The numbers are those of `NeuralNetwork.proto` (apple/coremltools, mlmodel/format). Layers that are not converted are
`Empty`, to be told by name.
"""

LAYERS = """
message NeuralNetworkLayer {
  string name = 1; repeated string input = 2; repeated string output = 3; repeated Tensor inputTensor = 4;
  repeated Tensor outputTensor = 5; ConvolutionLayerParams convolution = 100; PoolingLayerParams pooling = 120;
  ActivationParams activation = 130; InnerProductLayerParams innerProduct = 140; EmbeddingLayerParams embedding
  = 150; BatchnormLayerParams batchnorm = 160; MeanVarianceNormalizeLayerParams mvn = 165;
  L2NormalizeLayerParams l2normalize = 170; Empty softmax = 175; LRNLayerParams lrn = 180; CropLayerParams crop
  = 190; PaddingLayerParams padding = 200; UpsampleLayerParams upsample = 210; ResizeBilinearLayerParams
  resizeBilinear = 211; Empty cropResize = 212; UnaryFunctionLayerParams unary = 220; AddLayerParams add = 230;
  AddLayerParams multiply = 231; Empty average = 240; ScaleLayerParams scale = 245; BiasLayerParams bias = 250;
  Empty max = 260; Empty min = 261; DotProductLayerParams dot = 270; ReduceLayerParams reduce = 280;
  LoadConstantLayerParams loadConstant = 290; ReshapeLayerParams reshape = 300; FlattenLayerParams flatten =
  301; PermuteLayerParams permute = 310; ConcatLayerParams concat = 320; SplitLayerParams split = 330; Empty
  sequenceRepeat = 340; ReorganizeDataLayerParams reorganizeData = 345; SliceLayerParams slice = 350;
  SimpleRecurrentLayerParams simpleRecurrent = 400; GRULayerParams gru = 410; UniDirectionalLSTMLayerParams
  uniDirectionalLSTM = 420; BiDirectionalLSTMLayerParams biDirectionalLSTM = 430; Empty copy = 600; Empty branch
  = 605; Empty loop = 615; Empty loopBreak = 620; Empty loopContinue = 625; Empty rangeStatic = 635; Empty
  rangeDynamic = 640; ClipLayerParams clip = 660; Empty ceil = 665; Empty floor = 670; Empty sign = 680; Empty
  round = 685; Empty exp2 = 700; Empty sin = 710; Empty cos = 715; Empty tan = 720; Empty asin = 730; Empty acos
  = 735; Empty atan = 740; Empty sinh = 750; Empty cosh = 755; Empty tanh = 760; Empty asinh = 770; Empty acosh
  = 775; Empty atanh = 780; Empty erf = 790; GeluLayerParams gelu = 795; AddLayerParams equal = 815;
  AddLayerParams notEqual = 820; LessThanLayerParams lessThan = 825; LessThanLayerParams lessEqual = 827;
  LessThanLayerParams greaterThan = 830; LessThanLayerParams greaterEqual = 832; Empty logicalOr = 840; Empty
  logicalXor = 845; Empty logicalNot = 850; Empty logicalAnd = 855; Empty modBroadcastable = 865; Empty
  minBroadcastable = 870; Empty maxBroadcastable = 875; Empty addBroadcastable = 880; Empty powBroadcastable =
  885; Empty divideBroadcastable = 890; Empty floorDivBroadcastable = 895; Empty multiplyBroadcastable = 900;
  Empty subtractBroadcastable = 905; TileLayerParams tile = 920; StackLayerParams stack = 925; StackLayerParams
  gather = 930; Empty scatter = 935; Empty gatherND = 940; Empty scatterND = 945; StackLayerParams softmaxND =
  950; StackLayerParams gatherAlongAxis = 952; Empty scatterAlongAxis = 954; ReverseLayerParams reverse = 960;
  Empty reverseSeq = 965; SplitNDLayerParams splitND = 975; ConcatNDLayerParams concatND = 980;
  TransposeLayerParams transpose = 985; SliceStaticLayerParams sliceStatic = 995; Empty sliceDynamic = 1000;
  Empty slidingWindows = 1005; TopKLayerParams topK = 1015; ArgMinLayerParams argMin = 1020; ArgMinLayerParams
  argMax = 1025; EmbeddingNDLayerParams embeddingND = 1040; BatchedMatMulLayerParams batchedMatmul = 1045; Empty
  getShape = 1065; LoadConstantLayerParams loadConstantND = 1070; FillLikeLayerParams fillLike = 1080;
  FillStaticLayerParams fillStatic = 1085; Empty fillDynamic = 1090; Empty broadcastToLike = 1100;
  BroadcastToStaticLayerParams broadcastToStatic = 1105; Empty broadcastToDynamic = 1110; SqueezeLayerParams
  squeeze = 1120; ExpandDimsLayerParams expandDims = 1125; StackLayerParams flattenTo2D = 1130; Empty
  reshapeLike = 1135; ReshapeStaticLayerParams reshapeStatic = 1140; Empty reshapeDynamic = 1145;
  ReshapeStaticLayerParams rankPreservingReshape = 1150; ConstantPaddingLayerParams constantPad = 1155; Empty
  randomNormalLike = 1170; Empty randomNormalStatic = 1175; Empty randomNormalDynamic = 1180; Empty
  randomUniformLike = 1190; Empty randomUniformStatic = 1195; Empty randomUniformDynamic = 1200; Empty
  randomBernoulliLike = 1210; Empty randomBernoulliStatic = 1215; Empty randomBernoulliDynamic = 1220; Empty
  categoricalDistribution = 1230; ReduceAxes reduceL1 = 1250; ReduceAxes reduceL2 = 1255; ReduceAxes reduceMax =
  1260; ReduceAxes reduceMin = 1265; ReduceAxes reduceSum = 1270; ReduceAxes reduceProd = 1275; ReduceAxes
  reduceMean = 1280; ReduceAxes reduceLogSum = 1285; ReduceAxes reduceSumSquare = 1290; ReduceAxes
  reduceLogSumExp = 1295; Empty whereNonZero = 1313; MatrixBandPartLayerParams matrixBandPart = 1315;
  LowerTriangularLayerParams lowerTriangular = 1320; LowerTriangularLayerParams upperTriangular = 1325; Empty
  whereBroadcastable = 1330; LayerNormalizationLayerParams layerNormalization = 1350; Empty
  NonMaximumSuppression = 1400; OneHotLayerParams oneHot = 1450; CumSumLayerParams cumSum = 1455;
  ClampedReLULayerParams clampedReLU = 1460; ArgSortLayerParams argSort = 1461; Empty pooling3d = 1465; Empty
  globalPooling3d = 1466; Empty sliceBySize = 1470; Empty convolution3d = 1471;
}
message Empty { }
message Tensor { uint32 rank = 1; repeated int64 dimValue = 2; }
message ConvolutionLayerParams {
  uint64 outputChannels = 1; uint64 kernelChannels = 2; uint64 nGroups = 10; repeated uint64 kernelSize = 20;
  repeated uint64 stride = 30; repeated uint64 dilationFactor = 40; ValidPadding valid = 50;
  SamePadding same = 51; bool isDeconvolution = 60; bool hasBias = 70; WeightParams weights = 90;
  WeightParams bias = 91; repeated uint64 outputShape = 100;
}
message PoolingLayerParams {
  enum PoolingType { MAX = 0; AVERAGE = 1; L2 = 2; }
  message ValidCompletePadding { repeated uint64 paddingAmounts = 10; }
  PoolingLayerParams.PoolingType type = 1; repeated uint64 kernelSize = 10; repeated uint64 stride = 20;
  ValidPadding valid = 30; SamePadding same = 31; PoolingLayerParams.ValidCompletePadding includeLastPixel = 32;
  bool avgPoolExcludePadding = 50; bool globalPooling = 60;
}
message ActivationParams {
  ClampedReLULayerParams linear = 5; Empty ReLU = 10; AddLayerParams leakyReLU = 15;
  AddLayerParams thresholdedReLU = 20; ActivationPReLU PReLU = 25; Empty tanh = 30;
  ClampedReLULayerParams scaledTanh = 31; Empty sigmoid = 40; ClampedReLULayerParams sigmoidHard = 41;
  AddLayerParams ELU = 50; Empty softsign = 60; Empty softplus = 70;
  ActivationParametricSoftplus parametricSoftplus = 71;
}
message InnerProductLayerParams {
  uint64 inputChannels = 1; uint64 outputChannels = 2; bool hasBias = 10; WeightParams weights = 20;
  WeightParams bias = 21; bool int8DynamicQuantize = 22;
}
message EmbeddingLayerParams {
  uint64 inputDim = 1; uint64 outputChannels = 2; bool hasBias = 10; WeightParams weights = 20;
  WeightParams bias = 21;
}
message BatchnormLayerParams {
  uint64 channels = 1; bool computeMeanVar = 5; bool instanceNormalization = 6; float epsilon = 10;
  WeightParams gamma = 15; WeightParams beta = 16; WeightParams mean = 17; WeightParams variance = 18;
}
message MeanVarianceNormalizeLayerParams { bool acrossChannels = 1; bool normalizeVariance = 2; float epsilon = 3; }
message L2NormalizeLayerParams { float epsilon = 1; }
message LRNLayerParams { float alpha = 1; float beta = 2; uint64 localSize = 3; float k = 4; }
message CropLayerParams { BorderAmounts cropAmounts = 1; repeated uint64 offset = 5; }
message PaddingLayerParams {
  message PaddingConstant { float value = 1; }
  message PaddingReflection { }
  message PaddingReplication { }
  PaddingLayerParams.PaddingConstant constant = 1; PaddingLayerParams.PaddingReflection reflection = 2;
  PaddingLayerParams.PaddingReplication replication = 3; BorderAmounts paddingAmounts = 10;
}
message UpsampleLayerParams {
  enum InterpolationMode { NN = 0; BILINEAR = 1; }
  enum LinearUpsampleMode { DEFAULT = 0; ALIGN_CORNERS_TRUE = 1; ALIGN_CORNERS_FALSE = 2; }
  repeated uint64 scalingFactor = 1; repeated float fractionalScalingFactor = 7;
  UpsampleLayerParams.InterpolationMode mode = 5; UpsampleLayerParams.LinearUpsampleMode linearUpsampleMode = 6;
}
message ResizeBilinearLayerParams { repeated uint64 targetSize = 1; SamplingMode mode = 2; }
message UnaryFunctionLayerParams {
  enum Operation { SQRT = 0; RSQRT = 1; INVERSE = 2; POWER = 3; EXP = 4; LOG = 5; ABS = 6; THRESHOLD = 7; }
  UnaryFunctionLayerParams.Operation type = 1; float alpha = 2; float epsilon = 3; float shift = 4;
  float scale = 5;
}
message AddLayerParams { float alpha = 1; }
message ScaleLayerParams {
  repeated uint64 shapeScale = 1; WeightParams scale = 2; bool hasBias = 3; repeated uint64 shapeBias = 4;
  WeightParams bias = 5;
}
message BiasLayerParams { repeated uint64 shape = 1; WeightParams bias = 2; }
message DotProductLayerParams { bool cosineSimilarity = 1; }
message ReduceLayerParams {
  enum ReduceOperation {
    SUM = 0; AVG = 1; PROD = 2; LOGSUM = 3; SUMSQUARE = 4; L1 = 5; L2 = 6; MAX = 7; MIN = 8; ARGMAX = 9;
  }
  enum ReduceAxis { CHW = 0; HW = 1; C = 2; H = 3; W = 4; }
  ReduceLayerParams.ReduceOperation mode = 1; float epsilon = 2; ReduceLayerParams.ReduceAxis axis = 3;
}
message LoadConstantLayerParams { repeated uint64 shape = 1; WeightParams data = 2; }
message ReshapeLayerParams {
  enum ReshapeOrder { CHANNEL_FIRST = 0; CHANNEL_LAST = 1; }
  repeated int64 targetShape = 1; ReshapeLayerParams.ReshapeOrder mode = 2;
}
message FlattenLayerParams {
  enum FlattenOrder { CHANNEL_FIRST = 0; CHANNEL_LAST = 1; }
  FlattenLayerParams.FlattenOrder mode = 1;
}
message PermuteLayerParams { repeated uint64 axis = 1; }
message ConcatLayerParams { bool sequenceConcat = 100; }
message SplitLayerParams { uint64 nOutputs = 1; }
message ReorganizeDataLayerParams {
  enum ReorganizationType { SPACE_TO_DEPTH = 0; DEPTH_TO_SPACE = 1; PIXEL_SHUFFLE = 2; }
  ReorganizeDataLayerParams.ReorganizationType mode = 1; uint64 blockSize = 2;
}
message SliceLayerParams {
  enum SliceAxis { CHANNEL_AXIS = 0; HEIGHT_AXIS = 1; WIDTH_AXIS = 2; }
  int64 startIndex = 1; int64 endIndex = 2; uint64 stride = 3; SliceLayerParams.SliceAxis axis = 4;
}
message SimpleRecurrentLayerParams {
  uint64 inputVectorSize = 1; uint64 outputVectorSize = 2; ActivationParams activation = 10;
  bool sequenceOutput = 15; bool hasBiasVector = 20; WeightParams weightMatrix = 30;
  WeightParams recursionMatrix = 31; WeightParams biasVector = 32; bool reverseInput = 100;
}
message GRULayerParams {
  uint64 inputVectorSize = 1; uint64 outputVectorSize = 2; repeated ActivationParams activations = 10;
  bool sequenceOutput = 15; bool hasBiasVectors = 20; WeightParams updateGateWeightMatrix = 30;
  WeightParams resetGateWeightMatrix = 31; WeightParams outputGateWeightMatrix = 32;
  WeightParams updateGateRecursionMatrix = 50; WeightParams resetGateRecursionMatrix = 51;
  WeightParams outputGateRecursionMatrix = 52; WeightParams updateGateBiasVector = 70;
  WeightParams resetGateBiasVector = 71; WeightParams outputGateBiasVector = 72; bool reverseInput = 100;
}
message UniDirectionalLSTMLayerParams {
  uint64 inputVectorSize = 1; uint64 outputVectorSize = 2; repeated ActivationParams activations = 10;
  LSTMParams params = 15; LSTMWeightParams weightParams = 20; bool reverseInput = 100;
}
message BiDirectionalLSTMLayerParams {
  uint64 inputVectorSize = 1; uint64 outputVectorSize = 2;
  repeated ActivationParams activationsForwardLSTM = 10; repeated ActivationParams activationsBackwardLSTM = 11;
  LSTMParams params = 15; repeated LSTMWeightParams weightParams = 20;
}
message ClipLayerParams { float minVal = 1; float maxVal = 2; }
message GeluLayerParams {
  enum GeluMode { EXACT = 0; TANH_APPROXIMATION = 1; SIGMOID_APPROXIMATION = 2; }
  GeluLayerParams.GeluMode mode = 1;
}
message LessThanLayerParams { float alpha = 2; }
message TileLayerParams { repeated uint64 reps = 1; }
message StackLayerParams { int64 axis = 1; }
message ReverseLayerParams { repeated bool reverseDim = 1; }
message SplitNDLayerParams { int64 axis = 1; uint64 numSplits = 2; repeated uint64 splitSizes = 3; }
message ConcatNDLayerParams { int64 axis = 1; bool interleave = 2; }
message TransposeLayerParams { repeated uint64 axes = 1; }
message SliceStaticLayerParams {
  repeated int64 beginIds = 1; repeated bool beginMasks = 2; repeated int64 endIds = 3;
  repeated bool endMasks = 4; repeated int64 strides = 5; repeated bool squeezeMasks = 6;
}
message TopKLayerParams { int64 axis = 1; uint64 K = 2; bool useBottomK = 3; }
message ArgMinLayerParams { int64 axis = 1; bool removeDim = 2; }
message EmbeddingNDLayerParams {
  uint64 vocabSize = 1; uint64 embeddingSize = 2; bool hasBias = 3; WeightParams weights = 20;
  WeightParams bias = 21;
}
message BatchedMatMulLayerParams {
  bool transposeA = 1; bool transposeB = 2; uint64 weightMatrixFirstDimension = 5;
  uint64 weightMatrixSecondDimension = 6; bool hasBias = 7; WeightParams weights = 8; WeightParams bias = 9;
  bool int8DynamicQuantize = 10;
}
message FillLikeLayerParams { float value = 1; }
message FillStaticLayerParams { float value = 1; repeated uint64 targetShape = 2; }
message BroadcastToStaticLayerParams { repeated uint64 targetShape = 1; }
message SqueezeLayerParams { repeated int64 axes = 1; bool squeezeAll = 2; }
message ExpandDimsLayerParams { repeated int64 axes = 1; }
message ReshapeStaticLayerParams { repeated int64 targetShape = 1; }
message ConstantPaddingLayerParams {
  float value = 1; repeated uint64 padAmounts = 2; bool padToGivenOutputSizeMode = 3;
}
message ReduceAxes { repeated int64 axes = 1; bool keepDims = 2; bool reduceAll = 3; }
message MatrixBandPartLayerParams { int64 numLower = 1; int64 numUpper = 2; }
message LowerTriangularLayerParams { int64 k = 1; }
message LayerNormalizationLayerParams {
  repeated int64 normalizedShape = 1; float eps = 2; WeightParams gamma = 3; WeightParams beta = 4;
}
message OneHotLayerParams { uint64 oneHotVectorSize = 1; int64 axis = 2; float onValue = 3; float offValue = 4; }
message CumSumLayerParams { int64 axis = 1; bool excludeFinalSum = 2; bool reverse = 3; }
message ClampedReLULayerParams { float alpha = 1; float beta = 2; }
message ArgSortLayerParams { int64 axis = 1; bool descending = 2; }
message ValidPadding { BorderAmounts paddingAmounts = 1; }
message SamePadding {
  enum SamePaddingMode { BOTTOM_RIGHT_HEAVY = 0; TOP_LEFT_HEAVY = 1; }
  SamePadding.SamePaddingMode asymmetryMode = 1;
}
message WeightParams {
  repeated bytes floatValue = 1; bytes float16Value = 2; bytes rawValue = 30; bytes int8RawValue = 31;
  QuantizationParams quantization = 40;
}
message ActivationPReLU { WeightParams alpha = 1; }
message ActivationParametricSoftplus { WeightParams alpha = 1; WeightParams beta = 2; }
message BorderAmounts {
  message EdgeSizes { uint64 startEdgeSize = 1; uint64 endEdgeSize = 2; }
  repeated BorderAmounts.EdgeSizes borderAmounts = 10;
}
message SamplingMode {
  enum Method { STRICT_ALIGN_ENDPOINTS_MODE = 0; ALIGN_ENDPOINTS_MODE = 1; UPSAMPLE_MODE = 2; ROI_ALIGN_MODE = 3; }
  SamplingMode.Method samplingMethod = 1;
}
message LSTMParams {
  bool sequenceOutput = 10; bool hasBiasVectors = 20; bool forgetBias = 30; bool hasPeepholeVectors = 40;
  bool coupledInputAndForgetGate = 50; float cellClipThreshold = 60;
}
message LSTMWeightParams {
  WeightParams inputGateWeightMatrix = 1; WeightParams forgetGateWeightMatrix = 2;
  WeightParams blockInputWeightMatrix = 3; WeightParams outputGateWeightMatrix = 4;
  WeightParams inputGateRecursionMatrix = 20; WeightParams forgetGateRecursionMatrix = 21;
  WeightParams blockInputRecursionMatrix = 22; WeightParams outputGateRecursionMatrix = 23;
  WeightParams inputGateBiasVector = 40; WeightParams forgetGateBiasVector = 41;
  WeightParams blockInputBiasVector = 42; WeightParams outputGateBiasVector = 43;
  WeightParams inputGatePeepholeVector = 60; WeightParams forgetGatePeepholeVector = 61;
  WeightParams outputGatePeepholeVector = 62;
}
message QuantizationParams {
  uint64 numberOfBits = 1; LinearQuantizationParams linearQuantization = 101;
  LookUpTableQuantizationParams lookupTableQuantization = 102;
}
message LinearQuantizationParams { repeated float scale = 1; repeated float bias = 2; }
message LookUpTableQuantizationParams { repeated float floatValue = 1; }
"""
