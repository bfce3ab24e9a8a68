"""Adapters, one file and one line below per data set."""

from cpsc_train.data.adapters.arrays import ArraysConfig
from cpsc_train.data.adapters.av_digits import AVDigitsConfig
from cpsc_train.data.adapters.ave import AVEConfig
from cpsc_train.data.adapters.avletters import AVLettersConfig
from cpsc_train.data.adapters.crema_d import CremaDConfig
from cpsc_train.data.adapters.handwritten import HandwrittenConfig
from cpsc_train.data.adapters.kinetics_sounds import KineticsSoundsConfig
from cpsc_train.data.adapters.mvsa_single import MVSASingleConfig
from cpsc_train.data.adapters.nyu_depth_v2 import NYUDepthV2Config
from cpsc_train.data.adapters.sun_rgbd import SUNRGBDConfig
from cpsc_train.data.adapters.table import TableConfig
from cpsc_train.data.adapters.utd_mhad import UTDMHADConfig
from cpsc_train.data.dataset import DataConfig

DataConfig.register(
    ArraysConfig,
    AVDigitsConfig,
    AVEConfig,
    AVLettersConfig,
    CremaDConfig,
    HandwrittenConfig,
    KineticsSoundsConfig,
    MVSASingleConfig,
    NYUDepthV2Config,
    SUNRGBDConfig,
    TableConfig,
    UTDMHADConfig,
)
